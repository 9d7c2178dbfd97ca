"""From whatever `images` may be to a list of pictures, decoded ahead of whoever reads them."""

import fnmatch
import glob
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from multimodal.preprocess.images import SUFFIXES, ImageError, ImageNotFoundError, open_image
from multimodal.results import Rejected

THREADS = 8  # at most
AHEAD = 4  # pictures per thread that may wait decoded


class Sources(NamedTuple):
    """Pictures, not opened yet: `open_image` takes each of the items."""

    items: list[Any]
    names: list[str]  # of the items, for people
    single: bool  # one picture was given, and not a list of one
    strict: bool  # one that cannot be used is an error, and not left out


def resolve(images: Any) -> Sources:
    """The pictures that `images` stands for.

    images: whatever `open_image` takes; a folder, read with all its subfolders (files with the suffix of a
    picture, sorted; hidden ones are left out, and a folder that links lead to twice is read once); a glob
    such as "photos/*.jpg" or "photos/**/*.png" (all files that match, sorted); a list or tuple of those; or
    a tensor [N, C, H, W] or array [N, H, W, C]. `Sources` are returned as they are.

    What was named one by one is strict; where a folder or a glob takes part, it is not. Raises ImageError
    for a path that leads nowhere and for anything else; the pictures themselves are not looked at.
    """
    if isinstance(images, Sources):
        return images
    if isinstance(images, str | os.PathLike):
        return _of_path(images)
    if isinstance(images, Tensor | np.ndarray) and images.ndim == 4:
        return Sources(list(images), [f"images[{i}]" for i in range(len(images))], False, True)
    if isinstance(images, list | tuple):
        return _of_list(images)
    if _is_one(images):
        return Sources([images], [_given_name(images, "image")], True, True)
    raise ImageError(
        "images: expected a path, folder or glob, bytes, a PIL image, an array, a tensor or a list of those, "
        f"got {type(images).__name__}"
    )


def decode_all(
    sources: Sources, read: Callable[[Any], Any] = open_image
) -> Iterator[tuple[int, Any | Rejected]]:
    """Yield (place, picture) in order, decoded by a few threads ahead of the reader.

    The picture is what `read` makes of an item: a PIL image of mode RGB, or a tensor with the `read` of an
    `ImageTransform`. One that cannot be used comes as `Rejected`, or raises ImageError with its name where
    the sources are strict. At most AHEAD pictures per thread are kept waiting, so that a folder of any size
    passes.
    """
    items, names, _, strict = sources

    def decode(i: int) -> Any:
        try:
            return read(items[i])
        except ImageError as error:
            return Rejected(names[i], str(error))

    def checked(i: int, result: Any) -> tuple[int, Any]:
        if strict and isinstance(result, Rejected):
            raise ImageError(str(result))
        return i, result

    if len(items) == 1:  # not worth a thread
        yield checked(0, decode(0))
        return
    threads = max(1, min(THREADS, _cores(), len(items)))
    waiting: deque[tuple[int, Future[Any]]] = deque()
    with ThreadPoolExecutor(threads, "decode") as pool:
        try:
            for i in range(len(items)):
                waiting.append((i, pool.submit(decode, i)))
                if len(waiting) > threads * AHEAD:
                    place, future = waiting.popleft()
                    yield checked(place, future.result())
            while waiting:
                place, future = waiting.popleft()
                yield checked(place, future.result())
        finally:  # also where the reader stops early
            for _, future in waiting:
                future.cancel()


def _of_path(path: "str | os.PathLike[str]") -> Sources:
    text = os.fspath(path)
    if os.path.isdir(text):
        found = _walk(Path(text))
    elif os.path.lexists(text):  # before the glob: a file may have brackets in its name
        return Sources([Path(text)], [text], True, True)
    elif glob.has_magic(text):
        found = _glob(text)
    else:
        raise ImageNotFoundError(f"{text or repr(text)}: no such file or folder")
    return Sources(found, [str(item) for item in found], False, False)


def _of_list(images: list[Any] | tuple[Any, ...]) -> Sources:
    items: list[Any] = []
    names: list[str] = []
    strict = True
    for i, image in enumerate(images):
        if isinstance(image, str | os.PathLike):
            some = _of_path(image)
            items += some.items
            names += some.names
            strict = strict and some.strict
        elif _is_one(image):
            items.append(image)
            names.append(_given_name(image, f"images[{i}]"))
        else:
            got = type(image).__name__
            raise ImageError(
                f"images[{i}]: expected a path, bytes, a PIL image, an array or a tensor, got {got}"
            )
    return Sources(items, names, False, strict)


def _is_one(image: Any) -> bool:
    from PIL import Image

    return isinstance(image, bytes | bytearray | memoryview | Image.Image | np.ndarray | Tensor)


def _given_name(image: Any, otherwise: str) -> str:
    """The path that a PIL image was opened from, where there is one."""
    name = getattr(image, "filename", "")
    return str(name) if isinstance(name, str | os.PathLike) and str(name) else otherwise


def _walk(folder: Path, everything: bool = False) -> list[Path]:
    """The pictures under `folder`, or all files, sorted; each begins with `folder` as it was given.

    A subfolder that cannot be listed is among them: opening it gives the reason. Folders that links lead to
    are read after all others, so that the names of a file that is reached twice is the plain one.
    """
    found: list[Path] = []
    read: set[tuple[int, int]] = set()  # device and inode of each folder
    plain, linked = [str(folder)], deque[str]()
    while plain or linked:
        here = plain.pop() if plain else linked.popleft()
        try:
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in read:
                continue
            read.add((status.st_dev, status.st_ino))
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if here == str(folder):
                raise ImageError(f"{folder}: cannot be read: {error.strerror or error}") from error
            found.append(Path(here))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                (linked if entry.is_symlink() else plain).append(entry.path)
            elif everything or os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                found.append(Path(entry.path))
    return sorted(found, key=lambda path: path.parts)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _glob(pattern: str) -> list[Path]:
    """All files that match, sorted. `**` is any number of folders, and does not run around in loops."""
    head, star, tail = _split(pattern)
    base = head
    while glob.has_magic(base):
        base = os.path.dirname(base)
    if base and not os.path.isdir(base):
        raise ImageNotFoundError(f"{pattern}: no such folder: {base}")
    if not star:
        paths = [Path(name) for name in glob.glob(pattern) if not os.path.isdir(name)]
        return sorted(paths, key=lambda path: path.parts)
    found: set[Path] = set()
    for start in glob.glob(head) if head else ["."]:
        if os.path.isdir(start):
            found.update(p for p in _walk(Path(start), True) if _matches(p.relative_to(start).parts, tail))
    return sorted(found, key=lambda path: path.parts)


def _split(pattern: str) -> tuple[str, bool, tuple[str, ...]]:
    """What stands before the first `**`, whether there is one, and the parts from there on."""
    parts = Path(pattern).parts
    if "**" not in parts:
        return os.path.dirname(pattern), False, ()
    first = parts.index("**")
    return str(Path(*parts[:first])) if first else "", True, parts[first:]


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether the parts of a path match those of a glob."""
    if not pattern:
        return not parts
    if pattern == ("**",):
        return True
    if pattern[0] == "**":
        return any(_matches(parts[i:], pattern[1:]) for i in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

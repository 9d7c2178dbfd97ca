"""Resolving user input to a list of items, and reading the items ahead of the consumer."""

import glob
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from multimodal.preprocess.images.decode import open_image
from multimodal.preprocess.images.transform import ImageTransform
from multimodal.preprocess.preprocessor import InputError, Preprocessor, plain_source
from multimodal.results import Rejected

MAX_THREADS = 8
MAX_WAITING_PER_THREAD = 4  # results that are read but not consumed yet
AnyPreprocessor = Preprocessor | type[ImageTransform]  # the class stands for images of any size


class Sources(NamedTuple):
    """Items that have not been read yet. `Preprocessor.read` accepts each of them."""

    items: list[Any]
    names: list[str]  # of the items, for messages and results
    single: bool  # the input was one item, not a list
    strict: bool  # an unusable item raises an error instead of being skipped


def resolve(inputs: Any, preprocessor: AnyPreprocessor = ImageTransform) -> Sources:
    """List the items that `inputs` stands for, without reading them.

    inputs: one of
        - a path, bytes, or an array-like object such as a PIL image, an array or a tensor: one item
        - what stands for a path or bytes, see `plain_source`: an open file, a `data:` URI, a dict of bytes and path
        - a folder: all files below it that `preprocessor.accepts`, sorted, without hidden files and folders; these
          are all images, by suffix or content, also unreadable ones; a folder that several links lead to is listed
          once
        - a glob such as "photos/*.jpg" or "photos/**/*.png": all matching files, sorted
        - a list or any other iterable of the above: a generator, a set (which is sorted), an array of paths
        - an array or tensor with one dimension more than an item, such as [N, 3, H, W]: a batch
        - `Sources`, which are returned as they are

    Items given one by one are strict. If a folder or glob takes part, unusable items are skipped instead.
    Raises `preprocessor.error` for a path that does not exist, for a URL and for any other type.
    """
    if isinstance(inputs, Sources):
        return inputs
    modality = preprocessor.modality
    if not _is_many(inputs, preprocessor.item_ndim):
        return _resolve_one(inputs, modality, preprocessor)
    inputs = sorted(inputs, key=str) if isinstance(inputs, Set) else inputs
    parts = [_resolve_one(each, f"{modality}s[{i}]", preprocessor) for i, each in enumerate(inputs)]
    items = [item for part in parts for item in part.items]
    names = [name for part in parts for name in part.names]
    return Sources(items, names, single=False, strict=all(part.strict for part in parts))


def decode_all(sources: Sources, read: Callable[[Any], Any] = open_image) -> Iterator[tuple[int, Any | Rejected]]:
    """Yield (index, `read(item)`) for all items in order, read by a few threads ahead of the consumer.

    An unusable item is yielded as `Rejected`, or raises its InputError with its name if the sources are
    strict. At most MAX_WAITING_PER_THREAD results per thread are held, so memory does not grow with the folder.
    """

    def read_item(i: int) -> Any:
        try:
            return read(sources.items[i])
        except InputError as error:
            if sources.strict:
                raise type(error)(f"{sources.names[i]}: {error}") from error
            return Rejected(sources.names[i], str(error))

    count = len(sources.items)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(MAX_THREADS, cores, count))
    waiting: deque[Future[Any]] = deque()
    pool = ThreadPoolExecutor(threads, "decode")
    try:
        for i in range(count):
            while len(waiting) <= threads * MAX_WAITING_PER_THREAD and i + len(waiting) < count:
                waiting.append(pool.submit(read_item, i + len(waiting)))
            yield i, waiting.popleft().result()
    finally:  # the consumer may stop early
        pool.shutdown(cancel_futures=True)


def _is_array(source: Any) -> bool:
    # The class is checked because a PIL image decodes itself when the attribute is accessed.
    return hasattr(type(source), "__array__") or hasattr(type(source), "__array_interface__")


def _is_many(inputs: Any, item_ndim: int) -> bool:
    """Whether `inputs` is a batch, an array of paths or another iterable, and not one item."""
    if _is_array(inputs):
        ndim = getattr(inputs, "ndim", None)
        return ndim == item_ndim + 1 or (ndim == 1 and getattr(inputs.dtype, "kind", "") in tuple("OSTU"))  # paths
    one = isinstance(inputs, str | bytes | bytearray | memoryview | os.PathLike | Mapping) or hasattr(inputs, "read")
    return isinstance(inputs, Iterable) and not one


def _resolve_one(source: Any, name: str, preprocessor: AnyPreprocessor) -> Sources:
    """A path, folder, glob or in-memory item. `name` is used if the item has no file name."""
    try:
        item = plain_source(source)
    except (OSError, ValueError) as error:
        raise preprocessor.error(f"{name}: {error}") from error
    if isinstance(item, str | os.PathLike):
        return _resolve_path(os.fspath(item), preprocessor)
    if not _is_array(item) and not isinstance(item, bytes | bytearray | memoryview):
        raise preprocessor.error(
            f"{name}: expected a path, a folder, a glob, bytes, an open file, an array-like object or a list of these, "
            f"got {type(source).__name__}"
        )
    # "filename" is an attribute of a PIL image that was opened from a path, "name" of a file.
    filenames = (
        [source.get("path")]
        if isinstance(source, Mapping)
        else [getattr(source, "filename", ""), getattr(source, "name", "")]
    )
    found = next((os.fspath(each) for each in filenames if isinstance(each, str | os.PathLike) and each), name)
    return Sources([item], [found], single=True, strict=True)


def _resolve_path(path: str, preprocessor: AnyPreprocessor) -> Sources:
    if os.path.isdir(path):
        if not os.access(path, os.R_OK | os.X_OK):
            raise preprocessor.error(f"{path}: cannot be read: permission denied")
        # A class from outside need not inherit `accepts`.
        accepts = getattr(preprocessor, "accepts", None) or partial(Preprocessor.accepts, preprocessor)  # type: ignore[arg-type]
        found: list[Path] = []  # with folders that cannot be listed, so that reading them reports the reason
        for folder, names in walk(path, lambda error: found.append(Path(error.filename))):
            found.extend(Path(folder, name) for name in names if accepts(os.path.join(folder, name)))
    elif os.path.lexists(path):  # before the glob: file names may contain brackets
        return Sources([Path(path)], [path], single=True, strict=True)
    elif glob.has_magic(path):
        base = path
        while glob.has_magic(base):
            base = os.path.dirname(base)
        if base and not os.path.isdir(base):
            raise preprocessor.error.not_found(f"{path}: no such folder: {base}")
        found = list(_glob(path))
    else:
        raise preprocessor.error.not_found(f"{path or repr(path)}: no such file or folder")
    found.sort(key=lambda file: file.parts)
    return Sources(found, [str(file) for file in found], single=False, strict=False)


def walk(top: str, onerror: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Yield (folder, names of its files) for `top` and all folders below, each once and without hidden ones.

    Links to folders are followed last, so that a file that is reachable twice is listed under its plain path.
    """
    visited: set[str] = set()
    pending = deque([top])
    while pending:
        for here, folders, names in os.walk(pending.popleft(), onerror=onerror):
            real = os.path.realpath(here)
            if real in visited:
                folders.clear()
                continue
            visited.add(real)
            yield here, [name for name in names if not name.startswith(".")]
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            pending.extend(filter(os.path.islink, (os.path.join(here, name) for name in folders)))


def _glob(pattern: str) -> set[Path]:
    """All files that match. `**` stands for any number of folders.

    The standard library cannot expand `**` here: `glob` follows links in circles; `pathlib` skips linked folders,
    matches hidden files, and changed the meaning of a final `**` in Python 3.13.
    """
    parts = Path(pattern).parts
    if "**" not in parts:
        return {Path(name) for name in glob.glob(pattern) if not os.path.isdir(name)}
    first = parts.index("**")
    starts = glob.glob(os.path.join(*parts[:first])) if first else [os.curdir]
    rest = parts[first + 1 :] or ("*",)
    folders = [folder for start in starts for folder, _ in walk(start)]
    return {path for folder in folders for path in _glob(os.path.join(glob.escape(folder), *rest))}

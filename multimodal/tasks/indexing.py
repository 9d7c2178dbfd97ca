"""Updating an index from its folder: new and changed files are embedded, deleted ones are dropped."""

import os
import stat
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from multimodal.files import sha256_of
from multimodal.preprocess import MAX_BYTES, Sources, resolve
from multimodal.results import Rejected
from multimodal.retrieval import Entry, Store
from multimodal.tasks.batches import progress_bar
from multimodal.tasks.embed import embed_named
from multimodal.tasks.task_model import TaskModel

FILES_PER_COMMIT = 256  # what an interrupted run loses at most
CLOCK_TICK_NS = 2_000_000_000  # some file systems store times to two seconds only


class Changes(NamedTuple):
    """What an update did, in files."""

    embedded: int = 0  # new or with new contents
    known: int = 0  # contents that the index had already
    dropped: int = 0  # deleted, or no longer readable


class Indexing:
    """One pass over the folder of `store`; its outcome is in `changes` and `rejected`."""

    def __init__(self, model: TaskModel, store: Store, modality: str) -> None:
        self.model, self.store, self.folder, self.modality = model, store, store.folder, modality
        self.known = store.entries()
        self.by_contents = {entry.sha256: name for name, entry in self.known.items()}
        self.changes = Changes()
        self.rejected: list[Rejected] = []

    def run(self, batch_size: int | None = None) -> int:
        """Read every file of the folder with a suffix of the modality; returns their number.

        A file of the same size and time counts as unchanged; otherwise its contents decide. The index is written
        every 256 files.
        """
        files = resolve(self.folder, self.model.inputs[self.modality]).items
        names = [Path(file).relative_to(self.folder).as_posix() for file in files]
        with progress_bar(len(names), "indexing", "files") as progress, ThreadPoolExecutor(4) as pool:
            for start in range(0, len(names), FILES_PER_COMMIT):
                chunk = names[start : start + FILES_PER_COMMIT]
                self.update(chunk, pool, batch_size)
                progress.update(len(chunk))
        self.write([], [], self.known.keys() - set(names))
        return len(names)

    def update(self, names: Sequence[str], pool: ThreadPoolExecutor, batch_size: int | None) -> None:
        """Bring some files up to date in one transaction."""
        fresh: list[Entry] = []
        copy: list[tuple[Entry, str]] = []
        remove: set[str] = set()
        for name, entry in zip(names, pool.map(self.read, names), strict=True):
            if isinstance(entry, Rejected):
                self.rejected.append(entry)
                remove.add(name)
                continue
            places = (name, self.by_contents.get(entry.sha256, ""))
            twins = [place for place in places if place in self.known and self.known[place].sha256 == entry.sha256]
            if not twins:
                fresh.append(entry)
            elif entry != self.known.get(name):  # touched, renamed, or a second copy
                copy.append((entry, twins[0]))
        known = len(names) - len(fresh) - len(remove)
        sources = sources_at(self.folder / entry.path for entry in fresh)
        embedded = embed_named(self.model, sources, self.modality, batch_size, quiet=True)
        self.rejected += embedded.rejected
        put = [(fresh[place], vector) for place, vector in zip(embedded.places, embedded.embeddings, strict=True)]
        remove |= {entry.path for entry in fresh} - {entry.path for entry, _ in put}
        self.write(put, copy, remove, known)

    def write(
        self, put: list[tuple[Entry, Tensor]], copy: list[tuple[Entry, str]], remove: set[str], known: int = 0
    ) -> None:
        """Update the store, and `known`, `by_contents` and `changes` with it."""
        remove = remove & self.known.keys()
        times_only = not put and not remove and all(entry.path == other for entry, other in copy)
        with suppress(OSError) if times_only else nullcontext():  # a read-only index of the same contents is up to date
            self.store.update(put, copy, remove)
        now = (len(put), known, len(remove))
        self.changes = Changes(*(a + b for a, b in zip(self.changes, now, strict=True)))
        for name in remove:
            del self.known[name]
        for entry in [*(entry for entry, _ in put), *(entry for entry, _ in copy)]:
            self.known[entry.path] = entry
            self.by_contents[entry.sha256] = entry.path

    def read(self, name: str) -> Entry | Rejected:
        """The file as it is now; its contents are hashed only if size or time differ from the known ones.

        The time is read before the contents, and the contents before the file is decoded: a file that changes while
        it is read is found changed by the next update.
        """
        path = self.folder / name
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise OSError("not a regular file")
            if status.st_size > MAX_BYTES:
                raise OSError(f"expected at most {MAX_BYTES} bytes, got {status.st_size}")
            old = self.known.get(name)
            if old is not None and (old.size, old.mtime_ns) == (status.st_size, status.st_mtime_ns):
                return old
            # A file this young may change again within one tick of the clock: do not trust its time next time.
            young = time.time_ns() - status.st_mtime_ns < CLOCK_TICK_NS
            return Entry(name, status.st_size, -1 if young else status.st_mtime_ns, sha256_of(path))
        except OSError as error:
            return Rejected(relative_to_here(path), error.strerror or str(error))


def sources_at(paths: Iterable[Path]) -> Sources:
    """Files as inputs, of which unreadable ones are skipped; their names are as in `relative_to_here`."""
    items = list(paths)
    return Sources(items, [relative_to_here(path) for path in items], single=False, strict=False)


def relative_to_here(path: Path) -> str:
    """The path relative to the working directory if it lies inside, else as it is."""
    here = os.getcwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

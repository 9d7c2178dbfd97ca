"""Search in a folder of pictures by text, picture or embedding.

D = dimensions of the space, N = pictures in the index
"""

import hashlib
import os
import stat
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from multimodal.outputs import Hit, Picture, Rejected, Results
from multimodal.preprocess import MAX_BYTES, Sources, open_image, resolve
from multimodal.retrieval import Entry, Space, Store, nearest
from multimodal.tasks.batches import BAR_FROM, warn_rejected
from multimodal.tasks.embed import embed_sources, embed_texts
from multimodal.tasks.protocol import TaskModel, require

COMMIT = 256  # files between two commits: what an interrupted run loses at most
FRESH = 2_000_000_000  # nanoseconds: some file systems tell times no finer than two seconds


class Changes(NamedTuple):
    """What an update did, in pictures."""

    embedded: int = 0  # new or with new contents
    known: int = 0  # contents that were in the index already
    dropped: int = 0  # vanished, or no longer readable


class Index:
    """The pictures of one folder, searchable. A context manager; `len(index)` is the number of pictures.

    `Model.index(folder, path)` makes or renews one, `Index.open(path, model)` opens one to search in it.

    >>> with model.index("photos", path="photos.db") as index:  # doctest: +SKIP
    ...     print(index.search("a dog on a beach", k=3))

    `changes` says what the last update did, and `rejected` names the files that it could not read.
    """

    def __init__(self, model: TaskModel, store: Store) -> None:
        self.model = model
        self.changes = Changes()
        self.rejected: list[Rejected] = []
        self._store = store
        self._vectors: tuple[Any, list[str], Tensor] | None = None  # version, paths, [N, D]

    @classmethod
    def open(cls, path: str | Path, model: TaskModel) -> "Index":
        """The index at `path`, as it was left; no picture is read.

        Raises FileNotFoundError; ValueError for a file that is not an index or is damaged, and for a `model`
        whose embedding space is not the one of the index, naming both.
        """
        require(model, "search")
        store = Store.open(path)
        expected, got = store.space, _space(model)
        if (expected.fingerprint, expected.dim) != (got.fingerprint, got.dim):
            store.close()
            raise ValueError(
                f"{path} was made with {expected}, got {got}: vectors of two models do not compare; "
                "use that model, or another path for a new index"
            )
        return cls(model, store)

    @classmethod
    def build(
        cls, model: TaskModel, folder: str | Path, path: str | Path, batch_size: int | None = None
    ) -> "Index":
        """Make or renew the index of `folder` at `path`; see `Model.index`."""
        require(model, "search")
        folder = Path(folder)
        if not folder.exists():
            raise FileNotFoundError(f"no folder at {folder}")
        if not folder.is_dir():
            raise ValueError(f"expected a folder to index, got {folder}, which is not one")
        folder = folder.resolve()
        path = Path(path)
        if not path.exists() or (path.is_file() and not path.stat().st_size):
            Store.create(path, _space(model), folder).close()
        index = cls.open(path, model)
        try:
            if index.folder != folder:
                if index.folder.is_dir() and not index.folder.samefile(folder):
                    raise ValueError(
                        f"{path} is the index of {index.folder}, got {folder}: use another path for its index"
                    )
                index._store.move(folder)
            index.update(batch_size)
        except BaseException:
            index.close()
            raise
        return index

    def update(self, batch_size: int | None = None) -> Changes:
        """Read the folder again: embed what is new or changed, drop what has vanished.

        A file of the same size and time is taken as unchanged; of any other the contents decide. The index is
        written every 256 files: an interrupted run keeps what it has and the next one goes on from there.
        """
        from tqdm import tqdm

        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder at {self.folder}")
        paths = [Path(item) for item in resolve(self.folder).items]
        known = self._store.entries()
        by_contents = {entry.sha256: name for name, entry in known.items()}
        self.rejected, self.changes = [], Changes()
        hidden = True if len(paths) < BAR_FROM else None  # None: shown where there is a terminal
        with (
            tqdm(total=len(paths), desc="indexing", unit=" images", leave=False, disable=hidden) as progress,
            ThreadPoolExecutor(4) as pool,
        ):
            for start in range(0, len(paths), COMMIT):
                chunk = paths[start : start + COMMIT]
                self._update_some(chunk, known, by_contents, pool, batch_size)
                progress.update(len(chunk))
        there = {self._name(path) for path in paths}
        vanished = [name for name in known if name not in there]
        self._store.update(remove=vanished)
        self._count(dropped=len(vanished))
        warn_rejected(self.rejected, len(paths))
        return self.changes

    def _update_some(
        self,
        paths: Sequence[Path],
        known: dict[str, Entry],
        by_contents: dict[str, str],
        pool: ThreadPoolExecutor,
        batch_size: int | None,
    ) -> None:
        """Bring some files up to date in one transaction, and `known` and `by_contents` with it."""
        fresh: list[tuple[Path, Entry]] = []
        touch: list[Entry] = []
        copy: list[tuple[Entry, str]] = []
        remove: list[str] = []
        for path, entry in zip(paths, pool.map(partial(_read, self.folder, known), paths), strict=True):
            if isinstance(entry, Rejected):
                self.rejected.append(entry)
                remove.append(self._name(path))
                continue
            old, twin = known.get(entry.path), by_contents.get(entry.sha256)
            if old is not None and old.sha256 == entry.sha256:
                touch += [entry] if entry != old else []
                self._count(known=1)
            elif twin is not None and twin in known and known[twin].sha256 == entry.sha256:
                copy.append((entry, twin))  # renamed, or a second copy
                self._count(known=1)
            else:
                fresh.append((path, entry))
        sources = Sources([path for path, _ in fresh], [_shown(path) for path, _ in fresh], False, False)
        embedded = embed_sources(self.model, sources, batch_size, bar=False)
        put = [
            (fresh[place][1], vector)
            for place, vector in zip(embedded.places, embedded.embeddings, strict=True)
        ]
        self.rejected += embedded.rejected
        written = {entry.path for entry, _ in put}
        remove += [entry.path for _, entry in fresh if entry.path not in written]
        remove = [name for name in remove if name in known]
        if put or touch or copy or remove:
            self._store.update(put, touch, copy, remove)
        self._count(embedded=len(put), dropped=len(remove))
        for name in remove:
            del known[name]
        for entry in [*(entry for entry, _ in put), *touch, *(entry for entry, _ in copy)]:
            known[entry.path] = entry
            by_contents[entry.sha256] = entry.path

    def search(self, query: Any, k: int = 5) -> Results[Hit]:
        """The `k` pictures nearest to `query`, best first: `Hit.path`, `Hit.score` (cosine), `Hit.image`.

        query: a str is always a text; a Path, a PIL image and whatever else is one picture is a picture; a
            float tensor or array [D] or [1, D] is an embedding, of any length but zero.
        k: at most so many; fewer where the index holds fewer.

        The search is exact: every vector is compared, and all of them stay in memory after the first time.
        Equal scores come in the order of their paths. `Hit.path` is relative where it lies under the
        working directory. Raises ValueError for k < 1 or a query that is none of these, ImageError for a
        picture that cannot be read.
        """
        vector = self._embed(query)  # [D]
        paths, matrix = self._matrix()
        scores, rows = nearest(matrix, vector[None], k)  # [1, K]
        hits: Results[Hit] = Results()
        for score, row in zip(scores[0].tolist(), rows[0].tolist(), strict=True):
            path = self.folder / paths[row]
            hits.append(Hit(_shown(path), score, Picture(_shown(path), partial(open_image, path))))
        return hits

    def _embed(self, query: Any) -> Tensor:
        """[D], of unit length"""
        dim = self._store.space.dim
        if isinstance(query, str):
            return embed_texts(self.model, query)[0]
        if isinstance(query, np.ndarray) and query.dtype.kind == "f":
            query = torch.from_numpy(query)
        if isinstance(query, Tensor) and (query.ndim == 1 or query.shape == (1, dim)):
            vector = query.detach().cpu().float().flatten()
            if vector.shape != (dim,) or not vector.isfinite().all() or not vector.any():
                raise ValueError(
                    f"query: expected a finite embedding [{dim}] that is not zero, got {list(query.shape)}"
                )
            return F.normalize(vector, dim=0)
        sources = resolve(query)
        if not sources.single:
            raise ValueError(
                f"query: expected one text, picture or embedding, got {len(sources.items)} pictures"
            )
        return embed_sources(self.model, sources).embeddings[0]

    def _matrix(self) -> tuple[list[str], Tensor]:
        """Paths in order and vectors [N, D], read again when the file has changed."""
        version = self._store.version()
        if self._vectors is None or self._vectors[0] != version:
            self._vectors = (version, *self._store.vectors())
        return self._vectors[1], self._vectors[2]

    @property
    def path(self) -> Path:
        return self._store.path

    @property
    def folder(self) -> Path:
        """Where the pictures lie, absolute."""
        return self._store.folder

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _count(self, embedded: int = 0, known: int = 0, dropped: int = 0) -> None:
        old = self.changes
        self.changes = Changes(old.embedded + embedded, old.known + known, old.dropped + dropped)

    def close(self) -> None:
        """Let go of the file; closing twice does no harm."""
        self._store.close()
        self._vectors = None

    def __len__(self) -> int:
        return len(self._store)

    def __bool__(self) -> bool:
        return True  # an index of no pictures is an index

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r}, folder={str(self.folder)!r}, model={self._store.space.model!r})"


def _space(model: TaskModel) -> Space:
    return Space(model.fingerprint, model.embed_dim, model.name)


def _read(folder: Path, known: dict[str, Entry], path: Path) -> Entry | Rejected:
    """The file as it is now; its contents are looked at only when size or time differ from the known ones.

    The time is taken before the contents, and they before the picture is decoded: a file that changes while
    it is read is found changed by the next update.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return Rejected(_shown(path), "not a regular file")
        if status.st_size > MAX_BYTES:
            return Rejected(_shown(path), f"{status.st_size} bytes, more than {MAX_BYTES}")
        name = path.relative_to(folder).as_posix()
        old = known.get(name)
        if old is not None and (old.size, old.mtime_ns) == (status.st_size, status.st_mtime_ns):
            return old
        # A file this young may change again within one tick of its clock: do not trust its time next time.
        young = time.time_ns() - status.st_mtime_ns < FRESH
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return Rejected(_shown(path), error.strerror or str(error))
    return Entry(name, status.st_size, -1 if young else status.st_mtime_ns, sha256)


def _shown(path: Path) -> str:
    """The path as people want to read it: from the working directory, where it lies under that."""
    here = os.getcwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)

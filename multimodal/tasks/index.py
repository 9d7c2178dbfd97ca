"""Search a folder by text, by an input such as an image, or by embedding.

D = dimensions of the space, N = vectors in the index
"""

import os
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from multimodal.config import check_at_least
from multimodal.files import printable
from multimodal.results import Hit, Rejected, Results
from multimodal.retrieval import EmbeddingSpace, Store, nearest
from multimodal.tasks.batches import items_at, sources_of, warn, warn_rejected
from multimodal.tasks.embed import embed_named, embed_texts
from multimodal.tasks.indexing import Changes, Indexing, sources_at
from multimodal.tasks.pairs import match
from multimodal.tasks.task_model import TaskModel, main_modality, require


class Index(AbstractContextManager["Index", None]):
    """The files of one folder, searchable. A context manager; `len(index)` is the number of vectors.

    `Model.index(folder, path)` creates or updates one, `Index.open(path, model)` opens one to search it.
    `changes` counts what the last update did, and `rejected` lists the files that it could not read.
    """

    def __init__(self, model: TaskModel, store: Store) -> None:
        self.model = model
        self.modality = main_modality(model)
        self.changes = Changes()
        self.rejected: list[Rejected] = []
        self.path = store.path
        self._store = store
        self._vectors: tuple[Any, list[str], Tensor] | None = None  # version, paths, [N, D]

    @classmethod
    def open(cls, path: str | Path, model: TaskModel) -> "Index":
        """The index at `path` as it is; no file of its folder is read.

        Raises FileNotFoundError; ValueError for a file that is not an index or is damaged, and for a `model`
        whose embedding space differs from that in which the index was built, with both.
        """
        require(model, "search")
        store = Store(path)
        if store.space != _space(model):
            store.close()
            expected = f"{path}: expected {store.space}, with which the index was built, got {_space(model)}"
            advice = "vectors of two models cannot be compared; use that model, or another path for a new index"
            raise ValueError(printable(f"{expected}: {advice}"))
        return cls(model, store)

    def update(self, batch_size: int | None = None) -> Changes:
        """Read the folder again: embed new and changed files, drop deleted ones.

        An interrupted update keeps its progress, and the next one continues from there.
        """
        if not self.folder.is_dir():
            got = printable(f"{self.folder}, which does not exist")
            raise FileNotFoundError(f"folder: expected a folder, got {got}")
        indexing = Indexing(self.model, self._store, self.modality)
        files = indexing.run(batch_size)
        self.changes, self.rejected = indexing.changes, indexing.rejected
        warn_rejected(self.rejected, files, self.modality)
        return self.changes

    @overload
    def search(self, query: str | Path | bytes, k: int = ..., rerank: int = ...) -> Results[Hit]: ...
    @overload
    def search(self, query: Any, k: int = ..., rerank: int = ...) -> Any: ...  # Results[Hit], or a list of them
    def search(self, query: Any, k: int = 5, rerank: int = 0) -> Any:
        """The `k` files nearest to `query`, best first: `Hit.path`, `Hit.score` (cosine), `Hit.image`.

        query: a str is always a text; a float tensor or array [D] or [1, D] is an embedding of any length but
            zero; a Path, bytes or a PIL image is an input of the indexed modality. Several of these, in a list or as
            an array of embeddings [Q, D], give a list of `Results`, one per query.
        k: the number of hits, fewer if the index holds fewer.
        rerank: the number of nearest hits that a model with a matching head scores again; their `Hit.score` is then
            the probability that the text describes the image, and they come before the other hits.

        The search is exact: every vector is compared, and all of them stay in memory after the first search.
        Equal scores are in the order of their paths. `Hit.path` is relative to the working directory if it lies
        inside. Warns of a str that is the path of a file. Raises ValueError for k < 1 or any other query, InputError
        for an input that cannot be read.
        """
        check_at_least(1, k=k)
        check_at_least(0, rerank=rerank)
        array = isinstance(query, np.ndarray | Tensor) and len(query) != 1 and self._holds_queries(query)
        if array or isinstance(query, list | tuple | Generator):
            return [self.search(each, k, rerank) for each in query]
        if rerank:
            require(self.model, "match")
            if not isinstance(query, str):
                raise ValueError(f"rerank: expected a text to match with, got {type(query).__name__}")
        vector = self._embed(query)  # [D]
        version = self._store.version()
        if self._vectors is None or self._vectors[0] != version:
            self._vectors = (version, *self._store.vectors())
        _, paths, matrix = self._vectors
        scores, rows = nearest(matrix, vector[None], max(k, rerank))  # [1, K]
        sources = sources_at(self.folder / paths[row] for row in rows[0].tolist())
        items = items_at(self.model, self.modality, sources, range(len(sources.items)))
        hits = [Hit(item.name, score, item) for score, item in zip(scores[0].tolist(), items, strict=True)]
        if rerank:
            matches = match(self.model, sources_at(Path(hit.path) for hit in hits[:rerank]), query)
            matched = [Hit(each.item.name, each.score, each.item) for each in matches]  # without unreadable files
            hits = sorted(matched, key=lambda hit: -hit.score) + hits[rerank:]
        return Results(hits[:k])

    def _holds_queries(self, array: Any) -> bool:
        """Whether an array holds strings, embeddings [Q, D], or a batch of inputs."""
        embeddings = array.ndim == 2 and array.shape[1] == self._store.space.dim
        strings = isinstance(array, np.ndarray) and array.dtype.kind in "OU"
        return embeddings or strings or array.ndim == self.model.inputs[self.modality].item_ndim + 1

    def _embed(self, query: Any) -> Tensor:
        """[D], of unit length"""
        dim = self._store.space.dim
        if isinstance(query, str):
            if os.path.isfile(os.path.expanduser(query)):
                warn(f"query: {query} is a file, but a str is searched for as a text: for the file, pass a Path")
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
        sources = sources_of(self.model, self.modality, query)
        if not sources.single:
            got = f"{len(sources.items)} {self.modality}s that are not in a list"
            raise ValueError(f"query: expected texts, {self.modality}s or embeddings, got {got}")
        return embed_named(self.model, sources, self.modality).embeddings[0]

    @property
    def folder(self) -> Path:
        """The indexed folder, absolute."""
        return self._store.folder

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        self._store.close()
        self._vectors = None

    def __len__(self) -> int:
        return len(self._store)

    def __bool__(self) -> bool:
        return True  # also if it is empty

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r}, folder={str(self.folder)!r}, model={self._store.space.model!r})"


def _space(model: TaskModel) -> EmbeddingSpace:
    return EmbeddingSpace(model.fingerprint, model.embed_dim, model.name)


def index_folder(model: TaskModel, folder: str | Path, path: str | Path, *, batch_size: int | None = None) -> Index:
    """Make the images of a folder searchable: one SQLite file at `path`.

    folder: read with all its subfolders; files of what the model reads beside text.
    path: created if missing. Otherwise it is updated: only new and changed files are embedded, and deleted ones are
        dropped. Its paths are relative to the folder: if the folder has moved, calling this again with its new
        place keeps all vectors.

    Returns an open `Index`: `index.search(query, k)`, `index.changes`, `index.rejected`. If the process is killed, the
    file holds the state before or after the current batch. Raises FileNotFoundError for a missing folder; ValueError
    if `path` is another kind of file, the index of another folder that still exists, or was built by a model with
    another embedding space.

    >>> index = model.index("photos/", path="photos.db")  # doctest: +SKIP
    >>> index.search("a dog on a beach", k=5)  # doctest: +SKIP
    """
    require(model, "search")
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(printable(f"folder: expected a folder, got {folder}, which does not exist"))
    if not folder.is_dir():
        raise ValueError(printable(f"folder: expected a folder, got {folder}, which is a file"))
    folder = folder.resolve()
    with suppress(FileExistsError):
        Store.create(path, _space(model), folder).close()
    with ExitStack() as opened:
        index = opened.enter_context(Index.open(path, model))
        if index.folder != folder:
            if index.folder.is_dir() and not index.folder.samefile(folder):
                got = f"got the index of {index.folder}: use another path"
                raise ValueError(printable(f"{path}: expected the index of {folder}, {got}"))
            with suppress(OSError):  # a read-only index on a share that is mounted elsewhere
                index._store.move(folder)
        index.update(batch_size)
        opened.pop_all()  # it stays open
    return index

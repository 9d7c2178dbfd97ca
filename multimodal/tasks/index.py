"""Search in a folder of pictures by text, picture or embedding.

D = dimensions of the space, N = pictures in the index
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from multimodal.preprocess import Sources, open_image, resolve
from multimodal.results import Hit, Item, Rejected, Results
from multimodal.retrieval import Space, Store, nearest
from multimodal.tasks.ask import match
from multimodal.tasks.batches import warn_rejected
from multimodal.tasks.embed import embed_sources, embed_texts
from multimodal.tasks.indexing import Changes, Indexing, shown
from multimodal.tasks.protocol import TaskModel, require


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

        An interrupted run keeps what it has, and the next one goes on from there.
        """
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder at {self.folder}")
        indexing = Indexing(self.model, self._store)
        files = indexing.run(batch_size)
        self.changes, self.rejected = indexing.changes, indexing.rejected
        warn_rejected(self.rejected, files)
        return self.changes

    def search(self, query: Any, k: int = 5, rerank: int = 0) -> Results[Hit]:
        """The `k` pictures nearest to `query`, best first: `Hit.path`, `Hit.score` (cosine), `Hit.image`.

        query: a str is always a text; a Path, a PIL image and whatever else is one picture is a picture; a
            float tensor or array [D] or [1, D] is an embedding, of any length but zero.
        k: at most so many; fewer where the index holds fewer.
        rerank: let a model that can match look again at so many of the nearest; `Hit.score` of those is then
            the probability that the text is about the picture, and they come before the others.

        The search is exact: every vector is compared, and all of them stay in memory after the first time.
        Equal scores come in the order of their paths. `Hit.path` is relative where it lies under the
        working directory. Raises ValueError for k < 1 or a query that is none of these, ImageError for a
        picture that cannot be read.
        """
        if isinstance(rerank, bool) or not isinstance(rerank, int) or rerank < 0:
            raise ValueError(f"rerank: expected a whole number of at least 0, got {rerank!r}")
        if rerank:
            require(self.model, "match")
            if not isinstance(query, str):
                raise ValueError(
                    f"rerank: expected a text to match pictures with, got {type(query).__name__}"
                )
        vector = self._embed(query)  # [D]
        paths, matrix = self._matrix()
        scores, rows = nearest(matrix, vector[None], max(k, rerank) if k > 0 else k)  # [1, K]
        hits: list[Hit] = []
        for score, row in zip(scores[0].tolist(), rows[0].tolist(), strict=True):
            path = self.folder / paths[row]
            hits.append(Hit(shown(path), score, Item(shown(path), partial(open_image, path))))
        if rerank:
            hits = self._rerank(query, hits[:rerank]) + hits[rerank:]
        return Results(hits[:k])

    def _rerank(self, query: str, hits: list[Hit]) -> list[Hit]:
        """The same pictures by how well they match, best first; those that cannot be read any more are left out."""
        pictures = Sources([Path(hit.path) for hit in hits], [hit.path for hit in hits], False, False)
        matches = match(self.model, pictures, query)
        assert isinstance(matches, Results)
        found = [Hit(each.item.name, each.score, each.item) for each in matches]
        return sorted(found, key=lambda hit: -hit.score)

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

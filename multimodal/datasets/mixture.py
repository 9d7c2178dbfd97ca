"""Several data sources as one endless series of training batches.

`Mixture.batch(step)` depends on the seed and the step alone, so a run continues where it stopped, and ranks
that each take their rows of it see together what one process would see.
"""

import copy
import itertools
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from multimodal.datasets.cache import load_images
from multimodal.datasets.loader import made_ahead
from multimodal.datasets.opening import open_source
from multimodal.datasets.order import EpochOrder, interleave, joined, rows_per_source
from multimodal.datasets.part import DataConfig, Part, Row
from multimodal.datasets.sample import Source
from multimodal.preprocess import Tokenizer
from multimodal.results import Rejected


class Batch(NamedTuple):
    """Rows of one training step."""

    images: Tensor  # uint8 [B, 3, S, S]
    tokens: Tensor  # int64 [B, L]
    groups: Tensor  # int64 [B]: rows with equal numbers are positives of each other, on all ranks
    captioning: Tensor  # bool [B]: the decoder learns from this row
    labels: Tensor  # int64 [B]: index into `Mixture.label_names`, -1 where there is none
    names: list[str]


class Mixture:
    """Sources mixed by weight into batches; see `batch`.

    Arguments: `configs` and the folder `root` that their paths are relative to; `tokenizer` (or
    `use_tokenizer` later, when it is trained on `texts`); `image_size`, the side S of the batches;
    `cache_size`, the side at which all decoded images are kept in memory; `batch_size`, of all ranks
    together; `seed`; `rank` and `world_size`; `resize`, how a picture becomes square.
    Raises ValueError when the images would take more than `max_cache_bytes`, when a source has no usable
    sample, and when the batch cannot be split over the sources or the ranks.
    """

    def __init__(
        self,
        configs: Sequence[DataConfig],
        root: str | Path = ".",
        tokenizer: Tokenizer | None = None,
        *,
        image_size: int,
        cache_size: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        resize: str = "crop",
        max_cache_bytes: int = 8 * 2**30,
        progress: bool = True,
    ) -> None:
        if not configs:
            raise ValueError("expected at least one data source, got none")
        if cache_size < 1:
            raise ValueError(f"cache_size: expected at least 1, got {cache_size}")
        self.rank, self.world_size = rank, world_size
        counts = self._mix([config.weight for config in configs], batch_size, image_size, seed)
        sources = [_open(config, Path(root)) for config in configs]
        count = sum(map(len, sources))
        total = count * 3 * cache_size * cache_size
        if total > max_cache_bytes:
            raise ValueError(
                f"{count} images at {cache_size} x {cache_size} take {total / 1e9:.1f} GB, "
                f"max_cache_bytes allows {max_cache_bytes / 1e9:.1f} GB: lower cache_size or limit"
            )
        text_ids: dict[str, int] = {}
        self.parts: list[Part] = []
        for config, source in zip(configs, sources, strict=True):
            images = load_images(source, cache_size, resize, progress)
            if not len(source):
                raise ValueError(f"{source.path}: expected images, got {source.summary()}")
            self.parts.append(Part(config, source, images, text_ids))
        self.rejected = [
            Rejected(f"{config.path}/{item.name}", item.reason)
            for config, source in zip(configs, sources, strict=True)
            for item in source.rejected
        ]
        self.texts = list(text_ids)
        self.label_names = sorted({label for part in self.parts for label in part.templated})
        self._label_ids = {label: i for i, label in enumerate(self.label_names)}
        self._order(counts)
        self._tokens: np.ndarray | None = None  # [T, L], the tokens of `texts`
        self._same_text = np.arange(len(self.texts))  # [T], equal where the tokens are equal
        if tokenizer is not None:
            self.use_tokenizer(tokenizer)

    def mixed(self, weights: Sequence[float], batch_size: int, image_size: int, seed: int) -> "Mixture":
        """The same pictures and texts in other batches; a source of weight 0 is left out."""
        other = copy.copy(self)
        other._order(other._mix(weights, batch_size, image_size, seed))
        return other

    def _mix(self, weights: Sequence[float], batch_size: int, image_size: int, seed: int) -> list[int]:
        """Take the arguments over; the rows of each source in a batch."""
        for name, value in (("image_size", image_size), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        if not 0 <= self.rank < self.world_size or batch_size % self.world_size:
            raise ValueError(
                f"expected 0 <= rank < world_size and a batch_size that world_size divides, "
                f"got rank {self.rank}, world_size {self.world_size}, batch_size {batch_size}"
            )
        self.image_size, self.batch_size, self.seed = image_size, batch_size, seed
        return rows_per_source(weights, batch_size)

    def _order(self, counts: Sequence[int]) -> None:
        self._row_source = interleave(counts)  # [B]
        self._orders = {
            i: EpochOrder(len(part.names), count, (self.seed, 0, i))
            for i, (part, count) in enumerate(zip(self.parts, counts, strict=True))
            if count
        }

    def __len__(self) -> int:
        """How many images there are in all sources."""
        return sum(len(part.names) for part in self.parts)

    def summary(self) -> str:
        """One line for each source: how many samples, how many rejected and the first reasons."""
        return "\n".join(part.summary for part in self.parts)

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Tokenise all captions, once."""
        kind = np.int16 if tokenizer.vocab_size <= 2**15 else np.int32
        self._tokens = tokenizer(self.texts).numpy().astype(kind)
        seen: dict[bytes, int] = {}
        self._same_text = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in self._tokens])

    def batch(self, step: int) -> Batch:
        """The rows of this rank for `step` (from 0).

        The global batch holds a fixed number of rows of each source. Each source is gone through in a new
        order each epoch; each row has one of its sample's captions and its own augmentation. Rank r has
        rows [r * B / world_size, (r + 1) * B / world_size).
        """
        if step < 0:
            raise ValueError(f"step: expected 0 or more, got {step}")
        if self._tokens is None:
            raise ValueError("the mixture has no tokenizer: expected one at the start or by use_tokenizer")
        index = np.empty(self.batch_size, int)
        for i, order in self._orders.items():
            index[self._row_source == i] = order.take(step)
        random = np.random.default_rng([self.seed, 1, step])
        draws = random.random((self.batch_size, 2)).tolist()
        seeds = random.integers(2**63, size=self.batch_size).tolist()
        rows = [
            self.parts[source].draw(source, i, *draw)
            for source, i, draw in zip(self._row_source.tolist(), index.tolist(), draws, strict=True)
        ]
        groups = joined([self._keys(row) for row in rows])

        share = self.batch_size // self.world_size
        mine = slice(self.rank * share, (self.rank + 1) * share)
        rows, seeds, groups = rows[mine], seeds[mine], groups[mine]
        images = torch.empty(share, 3, self.image_size, self.image_size, dtype=torch.uint8)
        generator = torch.Generator()
        for place, (row, row_seed) in enumerate(zip(rows, seeds, strict=True)):
            part = self.parts[row.source]
            images[place] = part.augment(
                part.images[row.sample], self.image_size, generator.manual_seed(row_seed)
            )
        labels = [self.parts[row.source].sample_labels[row.sample] for row in rows]
        return Batch(
            images=images,
            tokens=torch.from_numpy(self._tokens[[row.text for row in rows]].astype(np.int64)),
            groups=torch.tensor(groups),
            captioning=torch.tensor([row.captioning for row in rows]),
            labels=torch.tensor([-1 if name is None else self._label_ids[name] for name in labels]),
            names=[self.parts[row.source].names[row.sample] for row in rows],
        )

    def batches(
        self, start_step: int = 0, stop_step: int | None = None, workers: int = 1
    ) -> Generator[Batch, None, None]:
        """`batch(step)` for each step from `start_step`, made ahead by background processes, in order.

        The workers end with the iterator: exhausted, closed or dropped.
        """
        steps = itertools.count(start_step) if stop_step is None else range(start_step, stop_step)
        return made_ahead(self.batch, ((step,) for step in steps), workers)

    def _keys(self, row: Row) -> list[tuple[object, ...]]:
        """What this row may share with others that makes them positives of each other."""
        keys: list[tuple[object, ...]] = [
            ("image", row.source, row.sample),
            ("text", int(self._same_text[row.text])),
        ]
        if row.label_only:
            keys.append(("label", self.parts[row.source].sample_labels[row.sample]))
        return keys


def _open(config: DataConfig, root: Path) -> Source:
    source = open_source(root / config.path, config.templates)
    return source if config.limit is None else source.thin(config.limit)

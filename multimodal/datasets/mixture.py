"""Several data sources as one endless series of training batches.

`Mixture.batch(step)` depends on the seed and the step alone, so a run continues where it stopped, and the rows
of all ranks together are the batch of a single process.
"""

import copy
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from multimodal.datasets.cache import MAX_BYTES, load_inputs
from multimodal.datasets.cached_source import BatchRow, CachedSource, DataConfig
from multimodal.datasets.loader import prefetch
from multimodal.datasets.order import connected_components, epoch_samples, interleave, rows_per_source
from multimodal.datasets.sources import open_source
from multimodal.files import local_path
from multimodal.preprocess import Tokenizer
from multimodal.preprocess.preprocessor import Preprocessor
from multimodal.results import Rejected


class Batch(NamedTuple):
    """Rows of one training step."""

    inputs: dict[str, Tensor]  # "text": int64 [B, L]; "image": uint8 [B, 3, S, S]; others as collated
    groups: Tensor  # int64 [B]: rows with equal numbers are positives of each other, on all ranks
    captioning: Tensor  # bool [B]: the decoder learns from this row
    labels: Tensor  # int64 [B]: index into `Mixture.label_names`, -1 without a label
    names: list[str]


class Mixture:
    """Sources mixed by weight into batches; see `batch`.

    Arguments: `configs` and the folder `root` that their paths are relative to; `inputs`, the preprocessor of each
    modality that the network reads (for "text" the tokenizer, or `use_tokenizer` later, if it is to be trained on
    `texts`); `image_size`, the side S of the images in a batch, and `cache_size`, the side at which all images are kept
    in memory, both needed only with images; `batch_size`, of all ranks together; `seed`; `rank` and `world_size`;
    `max_cache_bytes`, above which the inputs of a source are not kept, but read again for each batch: the same
    batches, slower. Raises ValueError if a source has no usable sample, and if the batch cannot be split over the
    sources or the ranks.
    """

    def __init__(
        self,
        configs: Sequence[DataConfig],
        root: str | Path,
        inputs: Mapping[str, Preprocessor],
        *,
        image_size: int = 0,
        cache_size: int = 0,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        max_cache_bytes: int = MAX_BYTES,
        progress: bool = True,
    ) -> None:
        if not configs:
            raise ValueError("data: expected at least one source, got none")
        tokenizer = inputs.get("text")
        inputs = {modality: each for modality, each in inputs.items() if modality != "text"}
        self.modalities = tuple(inputs)  # without "text"
        if "image" in inputs and cache_size < 1:
            raise ValueError(f"cache_size: expected at least 1, got {cache_size}")
        self.rank, self.world_size = rank, world_size
        self._configure([config.weight for config in configs], batch_size, image_size, seed)
        suffixes = {modality: tuple(each.suffixes) for modality, each in inputs.items()}
        opened = [
            open_source(
                Path(root, local_path(config.path)),
                config.templates,
                suffixes,
                config.kind,
                image_key=config.image_key,
                caption_key=config.caption_key,
                split=config.split,
            ).thin(config.limit)
            for config in configs
        ]
        text_ids: dict[str, int] = {}
        self.sources: list[CachedSource] = []
        self.rejected: list[Rejected] = []
        for config, source in zip(configs, opened, strict=True):
            caches = load_inputs(source, inputs, cache_size, config.augment, progress, max_cache_bytes)
            if not len(source):
                raise ValueError(f"{source.path}: expected readable samples, got {source.summary()}")
            max_cache_bytes -= sum(cache.nbytes for cache in caches.values())
            self.sources.append(CachedSource(config, source, caches, text_ids))
            self.rejected += [Rejected(f"{config.path}/{item.name}", item.reason) for item in source.rejected]
        self.texts = list(text_ids)
        self.label_names = sorted({label for source in self.sources for label in source.templated})
        self._label_ids: dict[str | None, int] = {None: -1} | {label: i for i, label in enumerate(self.label_names)}
        self._tokens: np.ndarray | None = None  # [T, L], the tokens of `texts`
        self._same_text = np.arange(len(self.texts))  # [T], equal for equal tokens
        if tokenizer is not None:
            self.use_tokenizer(cast(Tokenizer, tokenizer))

    def mixed(self, weights: Sequence[float], batch_size: int, image_size: int, seed: int) -> "Mixture":
        """The same samples, which are shared, in other batches; a source of weight 0 is left out."""
        other = copy.copy(self)
        other._configure(weights, batch_size, image_size, seed)
        return other

    def _configure(self, weights: Sequence[float], batch_size: int, image_size: int, seed: int) -> None:
        """Check and keep the arguments."""
        if "image" in self.modalities and image_size < 1:
            raise ValueError(f"image_size: expected at least 1, got {image_size}")
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        if not 0 <= self.rank < self.world_size or batch_size % self.world_size:
            raise ValueError(
                f"expected 0 <= rank < world_size and a batch_size divisible by world_size, "
                f"got rank {self.rank}, world_size {self.world_size}, batch_size {batch_size}"
            )
        self.image_size, self.batch_size, self.seed = image_size, batch_size, seed
        self._counts = rows_per_source(weights, batch_size)  # rows of each source in a batch
        self._row_source = interleave(self._counts)  # [B]

    def __len__(self) -> int:
        """The number of samples in all sources."""
        return sum(len(source.names) for source in self.sources)

    def summary(self) -> str:
        """One line for each source: the number of samples and of rejected ones, with the first reasons."""
        return "\n".join(source.summary for source in self.sources)

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Tokenise all captions, once."""
        dtype = np.int16 if tokenizer.vocab_size <= 2**15 else np.int32
        self._tokens = tokenizer(self.texts).numpy().astype(dtype)
        seen: dict[bytes, int] = {}
        self._same_text = np.array([seen.setdefault(row.tobytes(), len(seen)) for row in self._tokens])

    def batch(self, step: int) -> Batch:
        """The rows of this rank for `step` (from 0).

        The global batch has a fixed number of rows of each source. Each source is traversed in a new order each
        epoch; each row has one of its sample's captions and its own augmentation. Rank r has
        rows [r * B / world_size, (r + 1) * B / world_size).
        """
        if step < 0:
            raise ValueError(f"step: expected 0 or more, got {step}")
        if self._tokens is None:
            raise ValueError('tokenizer: expected one in inputs["text"] or by use_tokenizer, got none')
        index = np.empty(self.batch_size, int)
        for i, count in enumerate(self._counts):
            if count:
                index[self._row_source == i] = epoch_samples(len(self.sources[i].names), count, (self.seed, 0, i), step)
        random = np.random.default_rng([self.seed, 1, step])
        draws = random.random((self.batch_size, 2)).tolist()
        seeds = random.integers(2**63, size=self.batch_size).tolist()
        rows = [
            self.sources[source].draw(source, i, *draw)
            for source, i, draw in zip(self._row_source.tolist(), index.tolist(), draws, strict=True)
        ]
        groups = connected_components([self._keys(row) for row in rows])

        share = self.batch_size // self.world_size
        mine = slice(self.rank * share, (self.rank + 1) * share)
        rows, seeds, groups = rows[mine], seeds[mine], groups[mine]
        inputs: dict[str, Tensor] = {}
        for modality in self.modalities:
            caches = [source.inputs[modality] for source in self.sources]
            drawn = zip(rows, seeds, strict=True)
            items = [caches[row.source].item(row.sample, seed, self.image_size) for row, seed in drawn]
            inputs[modality] = caches[0].collate(items)
        inputs["text"] = torch.from_numpy(self._tokens[[row.text for row in rows]].astype(np.int64))
        return Batch(
            inputs=inputs,
            groups=torch.tensor(groups),
            captioning=torch.tensor([row.captioning for row in rows]),
            labels=torch.tensor([self._label_ids[self.sources[row.source].labels[row.sample]] for row in rows]),
            names=[self.sources[row.source].names[row.sample] for row in rows],
        )

    def batches(self, start_step: int, stop_step: int, workers: int) -> Generator[Batch, None, None]:
        """`batch(step)` for each step from `start_step`, in order, prepared by background processes: `prefetch`."""
        return prefetch(self.batch, range(start_step, stop_step), workers)

    def _keys(self, row: BatchRow) -> list[tuple[object, ...]]:
        """Rows that share one of these keys are positives of each other."""
        keys: list[tuple[object, ...]] = [("sample", row.source, row.sample), ("text", int(self._same_text[row.text]))]
        if row.label_only:
            keys.append(("label", self.sources[row.source].labels[row.sample]))
        return keys

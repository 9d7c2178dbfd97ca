"""The inputs of a source: images as uint8, everything else as its preprocessor reads it; in memory or on demand.

N = samples, C = cache size, S = image size of a batch
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from multimodal.datasets.sample import Entry, Source
from multimodal.preprocess import Augment, ImageTransform, InputError, Preprocessor, Sources, decode_all
from multimodal.preprocess.images.decode import open_reduced
from multimodal.preprocess.images.transform import DRAFT_OVERSAMPLING
from multimodal.results import Rejected

MAX_BYTES = 8 * 2**30  # of the inputs in memory


class TensorCache:
    """One modality of all samples of a source: tensors of any shapes that the preprocessor can collate."""

    def __init__(self, modality: str, preprocessor: Preprocessor) -> None:
        self.modality, self.preprocessor = modality, preprocessor
        self.items: list[Tensor] | Tensor | None = []  # None: they take too much memory
        self.nbytes = 0  # of the items
        self.entries: list[Entry] = []  # read for each batch again, without items

    def read(self, entry: Entry) -> Tensor:
        """The input of a sample as it is kept. Raises OSError or ValueError if it is unreadable."""
        return self.preprocessor.read(entry.read(self.modality))

    def put(self, row: int, item: Tensor) -> None:
        """Keep the next item, if they are kept."""
        if isinstance(self.items, list):
            self.items.append(item)
            self.nbytes += item.nbytes
        elif self.items is not None:
            self.items[row] = item

    def item(self, row: int, seed: int, size: int) -> Tensor:
        """The input of a sample for a batch; augmentation depends on `seed` alone. Raises InputError with its name."""
        if self.items is not None:
            return self.items[row]
        try:
            return self.read(self.entries[row])
        except (OSError, ValueError) as error:
            raise InputError(f"{self.entries[row].name}: it was readable at the start, got {error}") from error

    def collate(self, items: list[Tensor]) -> Tensor:
        """A batch [B, ...] of items, which may come from caches of several sources."""
        return self.preprocessor.collate(items)


class ImageCache(TensorCache):
    """uint8 images [N, 3, C, C], made square as the preprocessor does, and random views [3, S, S] of them."""

    def __init__(self, preprocessor: Any, augment: Augment, count: int, size: int, max_bytes: int) -> None:
        super().__init__("image", preprocessor)
        self.transform = ImageTransform(size)
        if isinstance(preprocessor, ImageTransform):
            self.transform = replace(preprocessor, image_size=size)
        self.augment = augment
        self.items, shape = None, (count, 3, size, size)
        if math.prod(shape) <= max_bytes:
            # Resizing bytes is several times faster if the three channels of a pixel are adjacent.
            self.items = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
            self.nbytes = self.items.nbytes

    def read(self, entry: Entry) -> Tensor:
        min_side = DRAFT_OVERSAMPLING * self.transform.image_size if self.transform.draft else None
        pixels = np.array(self.transform.resized(*open_reduced(entry.read("image"), min_side)))
        return torch.from_numpy(pixels).permute(2, 0, 1)  # [C, C, 3] -> [3, C, C]

    def item(self, row: int, seed: int, size: int) -> Tensor:
        return self.augment(super().item(row, seed, size), size, torch.Generator().manual_seed(seed))

    def collate(self, items: list[Tensor]) -> Tensor:
        return torch.stack(items).contiguous()  # views may be channels-last


def load_inputs(
    source: Source, inputs: Mapping[str, Preprocessor], image_size: int, augment: Augment, progress: bool,
    max_bytes: int = MAX_BYTES,
) -> dict[str, TensorCache]:  # fmt: skip
    """Read everything that the preprocessors `inputs` need of `source`; images are kept at image_size C.

    Inputs that take more than `max_bytes` are only checked, and read for each batch again.
    Samples with an unreadable input move to `source.rejected`, so that row i always belongs to `source[i]`.
    """
    count = len(source)
    caches = {
        name: ImageCache(each, augment, count, image_size, max_bytes) if name == "image" else TensorCache(name, each)
        for name, each in inputs.items()
    }
    if not caches:
        return caches
    entries, source.entries = source.entries, []

    def read(row: int) -> list[Tensor]:
        try:
            return [cache.read(entries[row]) for cache in caches.values()]
        except (OSError, ValueError) as error:
            raise InputError(str(error)) from error

    rows = Sources(list(range(count)), [entry.name for entry in entries], single=False, strict=False)
    kept = all(cache.items is not None for cache in caches.values())
    what = f"reading {source.path}" if kept else f"checking {source.path} (larger than max_cache_gb)"
    for row, result in tqdm(decode_all(rows, read), what, count, disable=not progress):
        if isinstance(result, Rejected):
            source.rejected.append(result)
            continue
        for cache, item in zip(caches.values(), result, strict=True):
            cache.put(len(source.entries), item)
        source.entries.append(entries[row])
        if sum(cache.nbytes for cache in caches.values()) > max_bytes:
            for cache in caches.values():
                cache.items, cache.nbytes = None, 0
    for cache in caches.values():
        if cache.items is None:
            cache.entries = source.entries
        else:
            cache.items = cache.items[: len(source)]
    return caches

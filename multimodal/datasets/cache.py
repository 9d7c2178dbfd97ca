"""The inputs of a source in memory: images decoded to uint8, everything else as its preprocessor reads it.

N = samples, C = cache size, S = image size of a batch
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from multimodal.datasets.sample import Source
from multimodal.preprocess import Augment, ImageTransform, InputError, Preprocessor, Sources, decode_all, open_image
from multimodal.results import Rejected


class TensorCache:
    """One modality of all samples of a source: tensors of any shapes that the preprocessor can collate."""

    def __init__(self, count: int, preprocessor: Preprocessor) -> None:
        self.items: list[Tensor] | Tensor = [torch.empty(0)] * count
        self.preprocessor = preprocessor

    @property
    def nbytes(self) -> int:
        return sum(item.nbytes for item in self.items)

    def store(self, row: int, source: Any) -> None:
        """Read the input of a sample. Raises OSError or ValueError if it is unreadable."""
        self.items[row] = self.preprocessor.read(source)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all but these rows, which are in ascending order."""
        for place, row in enumerate(rows):
            if place != row:
                self.items[place] = self.items[row]
        self.items = self.items[: len(rows)]

    def item(self, row: int, seed: int, size: int) -> Tensor:
        """The input of a sample for a batch; augmentation depends on `seed` alone."""
        return self.items[row]

    def collate(self, items: list[Tensor]) -> Tensor:
        """A batch [B, ...] of items, which may come from caches of several sources."""
        return self.preprocessor.collate(items)


class ImageCache(TensorCache):
    """uint8 images [N, 3, C, C], made square as the preprocessor does, and random views [3, S, S] of them."""

    def __init__(self, count: int, preprocessor: Preprocessor, size: int, augment: Augment) -> None:
        # Resizing bytes is several times faster if the three channels of a pixel are adjacent.
        shape = (count, 3, size, size)
        self.items = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
        self.transform = ImageTransform(size, resize=getattr(preprocessor, "resize", "crop"))
        self.augment = augment

    def store(self, row: int, source: Any) -> None:
        pixels = np.array(self.transform.resized(open_image(source)))
        self.items[row] = torch.from_numpy(pixels).permute(2, 0, 1)  # [C, C, 3] -> [3, C, C]

    def item(self, row: int, seed: int, size: int) -> Tensor:
        return self.augment(self.items[row], size, torch.Generator().manual_seed(seed))

    def collate(self, items: list[Tensor]) -> Tensor:
        return torch.stack(items).contiguous()  # views may be channels-last


def load_inputs(
    source: Source, inputs: Mapping[str, Preprocessor], image_size: int, augment: Augment, progress: bool
) -> dict[str, TensorCache]:
    """Read everything that the preprocessors `inputs` need of `source`; images are kept at image_size C.

    Samples with an unreadable input move to `source.rejected`, so that row i always belongs to `source[i]`.
    """
    count = len(source)
    caches = {
        modality: ImageCache(count, each, image_size, augment) if modality == "image" else TensorCache(count, each)
        for modality, each in inputs.items()
    }

    def store(row: int) -> None:
        try:
            for modality, cache in caches.items():
                cache.store(row, source.entries[row].read(modality))
        except (OSError, ValueError) as error:
            raise InputError(str(error)) from error

    names = [entry.name for entry in source.entries]
    rows = Sources(list(range(count if caches else 0)), names, single=False, strict=False)
    size = sum(cache.nbytes for cache in caches.values()) / 1e9
    bar = tqdm(decode_all(rows, store), f"reading {source.path} ({size:.2f} GB)", len(rows.items), disable=not progress)
    failed = {row: result for row, result in bar if isinstance(result, Rejected)}
    readable = [row for row in range(count) if row not in failed]
    for cache in caches.values():
        cache.keep(readable)
    source.entries = [source.entries[row] for row in readable]
    source.rejected += failed.values()
    return caches

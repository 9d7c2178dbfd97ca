"""Every image of a source decoded once, into one uint8 tensor."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from multimodal.datasets.sample import Source
from multimodal.preprocess import ImageTransform, open_image

CHUNK = 32  # images per task of the thread pool


def load_images(
    source: Source, size: int, resize: str = "crop", progress: bool = True, threads: int | None = None
) -> Tensor:
    """Decode all images of `source`: uint8 [N, 3, size, size], made square as `ImageTransform` does.

    Samples whose image cannot be decoded move to `source.rejected`, so row i always belongs to `source[i]`.
    """
    from tqdm import tqdm

    # Resizing bytes is several times faster where the three channels of a pixel lie beside each other.
    shape = (len(source), 3, size, size)
    images = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
    failed: dict[int, str] = {}
    transform = ImageTransform(size, resize=resize)

    def decode(start: int) -> int:
        indices = range(start, min(start + CHUNK, len(source)))
        for i in indices:
            try:
                images[i] = _pixels(source[i].image, transform)
            except (OSError, ValueError) as error:
                failed[i] = str(error)
        return len(indices)

    bar = tqdm(
        total=len(source),
        desc=f"decoding {source.path} ({images.nbytes / 1e9:.2f} GB)",
        unit=" images",
        disable=not progress,
    )
    with bar, ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        done: Iterable[int] = pool.map(decode, range(0, len(source), CHUNK))
        for count in done:
            bar.update(count)
    if failed:
        kept = [i for i in range(len(source)) if i not in failed]
        for row, i in enumerate(kept):
            if row != i:
                images[row] = images[i]
        images = images[: len(kept)]
        source.reject(failed)
    return images


def _pixels(image: object, transform: ImageTransform) -> Tensor:
    """The picture as uint8 [3, size, size]."""
    import numpy as np

    picture = transform.resized(open_image(image))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)  # [H, W, 3] -> [3, H, W]

"""From anything that `images` may be to transformed batches, decoded ahead of the network."""

import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from multimodal.preprocess import Sources, decode_all, open_image
from multimodal.results import Item, Rejected
from multimodal.tasks.protocol import TaskModel

BAR_FROM = 200  # images, from which on a progress bar is worth its line


def image_batches(
    model: TaskModel,
    sources: Sources,
    rejected: list[Rejected],
    batch_size: int | None = None,
    doing: str = "images",
    bar: bool = True,
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield (places in `sources`, images [B, 3, S, S] on the model's device and in its dtype).

    Pictures of a folder or glob that cannot be read are added to `rejected`; any other raises ImageError.
    """
    from tqdm import tqdm

    size = default_batch_size(model.device) if batch_size is None else batch_size
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
    total = len(sources.items)
    hidden = True if not bar or total < BAR_FROM else None  # None: shown where there is a terminal
    places: list[int] = []
    images: list[Tensor] = []

    def stacked() -> tuple[list[int], Tensor]:
        return places, torch.stack(images).to(model.device, model.dtype)  # B x [3, S, S] -> [B, 3, S, S]

    with tqdm(total=total, desc=doing, unit=" images", leave=False, disable=hidden) as progress:
        for place, image in decode_all(sources, model.transform.read):
            progress.update()
            if isinstance(image, Rejected):
                rejected.append(image)
                continue
            places.append(place)
            images.append(image)
            if len(images) == size:
                yield stacked()
                places, images = [], []
        if images:
            yield stacked()


def default_batch_size(device: torch.device) -> int:
    return 32 if device.type == "cpu" else 256


def pictures(sources: Sources, places: Sequence[int]) -> list[Item]:
    """The pictures at `places`, opened when they are looked at."""
    return [Item(sources.names[i], partial(open_image, sources.items[i])) for i in places]


def warn_rejected(rejected: Sequence[Rejected], total: int) -> None:
    """One warning, at the caller's line, that counts the rejected pictures and names the first three."""
    if not rejected:
        return
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("multimodal."):
        frame, level = frame.f_back, level + 1
    named = "; ".join(str(item) for item in rejected[:3]) + ("; ..." if len(rejected) > 3 else "")
    warnings.warn(f"{len(rejected)} of {total} images could not be used: {named}", stacklevel=level)

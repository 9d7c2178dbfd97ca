"""From anything that a user may pass to preprocessed batches, decoded ahead of the network."""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from multimodal.config import check_at_least, check_one_of
from multimodal.files import printable
from multimodal.preprocess import Sources, decode_all, open_image, resolve
from multimodal.results import Item, Rejected, Result, Results
from multimodal.tasks.task_model import TaskModel

MIN_FOR_PROGRESS_BAR = 200  # inputs
Many = list[Any] | tuple[Any, ...]  # the types of inputs that always give `Results`
Texts = str | Sequence[str]
Work = Callable[[Tensor, list[int], list[Item]], Iterable[Result]]  # of a batch [B, ...], places in the inputs, items


def sources_of(model: TaskModel, modality: str, inputs: Any) -> Sources:
    """The items that `inputs` stands for: one, a list, a folder or a glob of the modality."""
    check_one_of(list(model.inputs), modality=modality)
    return resolve(inputs, model.inputs[modality])


def batches(
    model: TaskModel,
    modality: str,
    sources: Sources,
    rejected: list[Rejected],
    batch_size: int | None,
    doing: str | None,
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield (places in `sources`, batch [B, ...] on the model's device and in its dtype).

    Unreadable files of a folder or glob are appended to `rejected`; any other raises InputError.
    """
    preprocessor = model.inputs[modality]
    size = (32 if model.device.type == "cpu" else 256) if batch_size is None else batch_size
    check_at_least(1, batch_size=size)
    places: list[int] = []
    items: list[Tensor] = []
    total = len(sources.items)
    with progress_bar(total, doing, f"{modality}s") as progress:
        for place, item in decode_all(sources, preprocessor.read):
            progress.update()
            if isinstance(item, Rejected):
                rejected.append(item)
            else:
                places.append(place)
                items.append(item)
            if len(items) == size or (items and place == total - 1):
                batch = preprocessor.collate(items)  # B items -> [B, ...]
                yield places, batch.to(model.device, model.dtype if batch.is_floating_point() else batch.dtype)
                places, items = [], []


def progress_bar(total: int, doing: str | None, unit: str) -> Any:
    """A tqdm bar, which only shows on a terminal and from MIN_FOR_PROGRESS_BAR inputs on; None: it never shows."""
    from tqdm import tqdm

    hidden = True if doing is None or total < MIN_FOR_PROGRESS_BAR else None  # None: shown on a terminal
    return tqdm(total=total, desc=doing, unit=f" {unit}", leave=False, disable=hidden)


def results_of(
    model: TaskModel, modality: str, sources: Sources, work: Work[Result], batch_size: int | None, doing: str
) -> Result | Results[Result]:
    """`work` on all batches: its only result for a single input, else `Results`."""
    results: Results[Result] = Results()
    for places, batch in batches(model, modality, sources, results.rejected, batch_size, doing):
        items = items_at(model, modality, sources, places)
        with torch.inference_mode():
            found = list(work(batch, places, items))
        check_finite(torch.tensor([result.score for result in found]), [item.name for item in items])
        results += found
    warn_rejected(results.rejected, len(sources.items), modality)
    return results[0] if sources.single else results


def items_at(model: TaskModel, modality: str, sources: Sources, places: Sequence[int]) -> list[Item]:
    """The inputs at `places` for results, opened on access."""
    read = open_image if modality == "image" else model.inputs[modality].read
    return [Item(sources.names[i], partial(read, sources.items[i])) for i in places]


def warn_rejected(rejected: Sequence[Rejected], total: int, modality: str = "image") -> None:
    """One warning that counts the rejected inputs and lists the first three."""
    if rejected:
        listed = "; ".join(str(item) for item in rejected[:3]) + ("; ..." if len(rejected) > 3 else "")
        warn(f"{len(rejected)} of {total} {modality}s could not be used: {listed}")


def warn(message: str) -> None:
    """A UserWarning at the line outside of this package that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("multimodal."):
        frame, level = frame.f_back, level + 1
    warnings.warn(printable(message), stacklevel=level)


def check_finite(outputs: Tensor, names: Sequence[str]) -> None:
    """Raise ValueError with the name of the first input whose outputs [B] or [B, D] are not all finite."""
    if not outputs.isfinite().all():
        row = int((~outputs.isfinite()).nonzero()[0, 0])
        got = "got NaN or infinity: its weights are damaged, or its dtype is too narrow"
        raise ValueError(printable(f"{names[row]}: expected finite outputs of the model, {got}"))

"""A sentence about a picture."""

from typing import Any

import torch

from multimodal.generation import Strategy
from multimodal.models import Captioner, ImageCaptioner
from multimodal.preprocess import resolve
from multimodal.results import Caption, Results
from multimodal.tasks.batches import image_batches, pictures, warn_rejected
from multimodal.tasks.protocol import TaskModel, require
from multimodal.tasks.write import Writing, settings_of


def caption(
    model: TaskModel,
    images: Any,
    num_beams: int = 1,
    max_new_tokens: int | None = None,
    length_penalty: float | None = None,
    batch_size: int | None = None,
    strategy: Strategy | None = None,
) -> Caption | Results[Caption]:
    """A sentence about each image; see `Model.caption`."""
    require(model, "caption")
    network = model.network
    assert isinstance(network, Captioner | ImageCaptioner)
    if strategy is not None:
        num_beams, max_new_tokens, length_penalty = settings_of(strategy)
    writing = Writing(model, network, num_beams, max_new_tokens, length_penalty)
    sources = resolve(images)
    results: Results[Caption] = Results()
    for places, batch in image_batches(model, sources, results.rejected, batch_size, "captioning"):
        with torch.inference_mode():
            written = writing(network.encode_memory(batch))
        for picture, (text, score) in zip(pictures(sources, places), written, strict=True):
            results.append(Caption(text, score, picture))
    warn_rejected(results.rejected, len(sources.items))
    return results[0] if sources.single else results

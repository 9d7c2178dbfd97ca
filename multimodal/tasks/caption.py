"""A sentence about a picture."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from multimodal.generation import Generated, generate
from multimodal.models import Captioner
from multimodal.outputs import Caption, Results
from multimodal.preprocess import resolve
from multimodal.tasks.batches import image_batches, pictures, warn_rejected
from multimodal.tasks.protocol import TaskModel, can_text


def caption(
    model: TaskModel,
    images: Any,
    num_beams: int = 1,
    max_new_tokens: int | None = None,
    length_penalty: float | None = None,
    batch_size: int | None = None,
) -> Caption | Results[Caption]:
    """A sentence about each image; see `Model.caption`."""
    network = model.network
    if not isinstance(network, Captioner):
        raise ValueError(
            f"expected a model that can caption, got {model.name!r}, which has no decoder; "
            f"it can {can_text(model)}"
        )
    longest = model.tokenizer.context_length - 1  # the first token is bos
    max_new_tokens = longest if max_new_tokens is None else max_new_tokens
    for name, value in (("num_beams", num_beams), ("max_new_tokens", max_new_tokens)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    if max_new_tokens > longest:
        raise ValueError(f"max_new_tokens: expected at most {longest}, got {max_new_tokens}")
    length_penalty = network.length_penalty if length_penalty is None else length_penalty
    if not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty: expected a finite number, got {length_penalty}")
    sources = resolve(images)
    results: Results[Caption] = Results()
    for places, batch in image_batches(model, sources, results.rejected, batch_size, "captioning"):
        generated = _write(model, network, batch, num_beams, max_new_tokens, length_penalty)
        for picture, tokens, score in zip(
            pictures(sources, places), generated.tokens.tolist(), generated.scores.tolist(), strict=True
        ):
            results.append(Caption(model.tokenizer.decode(tokens), score, picture))
    warn_rejected(results.rejected, len(sources.items))
    return results[0] if sources.single else results


@torch.inference_mode()
def _write(
    model: TaskModel,
    network: Captioner,
    batch: Tensor,
    num_beams: int,
    max_new_tokens: int,
    length_penalty: float,
) -> Generated:
    """images [B, 3, S, S] -> tokens [B, T] after bos, scores [B]"""
    tokenizer = model.tokenizer
    return generate(
        partial(_step, network),
        network.new_cache(network.encode_memory(batch)),
        torch.full((len(batch), 1), tokenizer.bos_id, device=batch.device),
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        length_penalty=length_penalty,
    )


def _step(network: Captioner, tokens: Tensor, cache: Any) -> Tensor:
    return network.decode(tokens, cache=cache)

"""Golden vectors: what a model answers to a built-in image and sentence, kept beside its weights."""

import warnings
from typing import Any

import numpy as np
import torch

from multimodal.generation import Greedy
from multimodal.model import Model
from multimodal.models import Embeds
from multimodal.zoo.weights import CheckpointError

TEXT = "a red square on a green hill under a blue sky"
QUESTION = "what colour is the sky?"
PROMPT = "a red"
MAX_NEW_TOKENS = 16
DIGITS = 5  # of the stored numbers


def example_image() -> np.ndarray:
    """The built-in test image, uint8 [96, 128, 3]: drawn with integers, the same everywhere."""
    y, x = np.mgrid[:96, :128]
    image = np.stack([x, 2 * y, 255 - x], -1).astype(np.uint8)  # [96, 128, 3]
    image[60:] = (40, 160, 60)
    image[40:70, 50:80] = (220, 30, 30)
    return image


def golden_vectors(model: Model) -> dict[str, Any]:
    """For what the model can do: embeddings, caption, match, answer and continuation of the built-in examples.

    A modality without a built-in example has no embedding here. Texts are as long as the model reads and writes.
    """
    image = example_image()
    golden: dict[str, Any] = {}
    decoder: Any = getattr(model.network, "decoder", None)
    lengths = [] if decoder is None else [decoder.config.context_length, model.tokenizer.context_length]
    strategy = Greedy(min([MAX_NEW_TOKENS, *(length - 1 for length in lengths)]))
    with warnings.catch_warnings(action="ignore"):  # built-in texts may be truncated
        if isinstance(model.network, Embeds):
            for modality, example in (("image", image), ("text", TEXT)):
                if modality in model.network.modalities:
                    embedding = model.embed(example, modality)[0]
                    golden[f"{modality}_embedding"] = [round(value, DIGITS) for value in embedding.tolist()]
        if "caption" in model.can:
            golden["caption"] = model.caption([image], strategy=strategy)[0].text
        if "match" in model.can:
            golden["match"] = round(model.match([image], TEXT)[0].score, DIGITS)
        if "answer" in model.can:
            golden["answer"] = model.answer([image], QUESTION, strategy=strategy)[0].text
        if "generate" in model.can:
            prompt = PROMPT if len(model.tokenizer.encode_batch([PROMPT])[0]) < min(lengths) - 1 else ""
            golden["text"] = model.generate(prompt, strategy=strategy).text
    return golden


def verify(model: Model, tolerance: float = 0.01) -> None:
    """Raise CheckpointError if `model` no longer answers as its card recorded.

    Embeddings need a cosine of 1 - tolerance, probabilities may differ by the tolerance. Texts must be the same, but
    only a model in float32 can be expected to repeat them.
    """
    golden = model.card.get("golden")
    if golden is None:
        raise CheckpointError(f"{model.name}: expected golden vectors in its config, got none")
    now = golden_vectors(model)
    if set(golden) != set(now):
        raise CheckpointError(f"{model.name}: expected golden {sorted(golden)}, got {sorted(now)}")
    for key, expected in golden.items():
        got, recorded = now[key], f"{model.name}: expected the recorded {key}"
        if isinstance(expected, str):
            if model.dtype == torch.float32 and expected != got:
                raise CheckpointError(f"{recorded} {expected!r}, got {got!r}")
        elif isinstance(expected, list):
            cosine = float(np.dot(expected, got))
            if not cosine >= 1 - tolerance:
                raise CheckpointError(f"{recorded}, got one with cosine {cosine:.4f} to it")
        elif not abs(expected - got) <= tolerance:
            raise CheckpointError(f"{recorded} {expected}, got {got}")

"""Golden vectors: what a model answers to a built-in picture and sentence, kept beside its weights."""

from typing import Any

import numpy as np
import torch

from multimodal.model import Model

TEXT = "a red square on a green hill under a blue sky"
QUESTION = "what colour is the sky?"
WORDS = 16  # tokens of the stored sentences
DIGITS = 5  # of the stored numbers


def picture() -> np.ndarray:
    """The built-in test picture, uint8 [96, 128, 3]: drawn with integers, the same everywhere."""
    y, x = np.mgrid[:96, :128]
    image = np.stack([x, 2 * y, 255 - x], -1).astype(np.uint8)  # [96, 128, 3]
    image[60:] = (40, 160, 60)
    image[40:70, 50:80] = (220, 30, 30)
    return image


def golden_vectors(model: Model) -> dict[str, Any]:
    """Of what the model can: the embeddings of the picture and the text, the caption, match and answer."""
    golden: dict[str, Any] = {}
    if "search" in model.can:
        golden["image_embedding"] = _rounded(model.embed_images(picture())[0].tolist())
        golden["text_embedding"] = _rounded(model.embed_texts([TEXT])[0].tolist())
    if "caption" in model.can:
        golden["caption"] = model.caption(picture(), max_new_tokens=WORDS).text
    if "match" in model.can:
        golden["match"] = round(model.match(picture(), TEXT).score, DIGITS)
    if "answer" in model.can:
        golden["answer"] = model.answer(picture(), QUESTION, max_new_tokens=WORDS).text
    return golden


def verify(model: Model, tolerance: float = 0.01) -> None:
    """ValueError where `model` no longer answers as its card recorded: an embedding with cosine below
    1 - tolerance, a probability off by more or, computed in float32 as the recorded ones were, another text."""
    golden = model.card.get("golden")
    if golden is None:
        raise ValueError(f"{model.name}: expected golden vectors in its config, got none")
    now = golden_vectors(model)
    if set(golden) != set(now):
        raise ValueError(f"{model.name}: expected golden {sorted(golden)}, got {sorted(now)}")
    for key, expected in golden.items():
        if isinstance(expected, str):
            if model.dtype == torch.float32 and expected != now[key]:
                raise ValueError(f"{model.name}: expected the recorded {key} {expected!r}, got {now[key]!r}")
            continue
        near = (
            float(np.dot(expected, now[key])) if isinstance(expected, list) else 1 - abs(expected - now[key])
        )
        if not near >= 1 - tolerance:
            what = f"one with cosine {near:.4f} to it" if isinstance(expected, list) else now[key]
            raise ValueError(f"{model.name}: expected the recorded {key}, got {what}")


def _rounded(values: list[float]) -> list[float]:
    return [round(value, DIGITS) for value in values]

"""Golden vectors: what a model answers to a built-in picture and sentence, kept beside its weights."""

from typing import Any

import numpy as np

from multimodal.model import Model

TEXT = "a red square on a green hill under a blue sky"
DIGITS = 5  # of the stored numbers


def picture() -> np.ndarray:
    """The built-in test picture, uint8 [96, 128, 3]: drawn with integers, the same everywhere."""
    y, x = np.mgrid[:96, :128]
    image = np.stack([x, 2 * y, 255 - x], -1).astype(np.uint8)  # [96, 128, 3]
    image[60:] = (40, 160, 60)
    image[40:70, 50:80] = (220, 30, 30)
    return image


def golden_vectors(model: Model) -> dict[str, Any]:
    """The embeddings of the picture and the text and, from a captioner, the caption."""
    golden: dict[str, Any] = {
        "image_embedding": _rounded(model.embed_images(picture())[0].tolist()),
        "text_embedding": _rounded(model.embed_texts([TEXT])[0].tolist()),
    }
    if "caption" in model.can:
        golden["caption"] = model.caption(picture()).text
    return golden


def verify(model: Model, tolerance: float = 0.01) -> None:
    """ValueError where `model` no longer answers as its card recorded: cosine below 1 - tolerance."""
    golden = model.card.get("golden")
    if golden is None:
        raise ValueError(f"{model.name}: expected golden vectors in its config, got none")
    now = golden_vectors(model)
    for key in ("image_embedding", "text_embedding"):
        cosine = float(np.dot(golden[key], now[key]))
        if not cosine >= 1 - tolerance:
            raise ValueError(
                f"{model.name}: expected the recorded {key}, got one with cosine {cosine:.4f} to it"
            )


def _rounded(values: list[float]) -> list[float]:
    return [round(value, DIGITS) for value in values]

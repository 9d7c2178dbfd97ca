"""What must fit together in a model, and is silently wrong elsewhere."""

from collections.abc import Mapping
from typing import Any

from multimodal.encoders import OpenClipImageConfig, OpenClipTextConfig, TextEncoderConfig
from multimodal.models import NetworkConfig
from multimodal.preprocess import ImageTransform, Tokenizer


def contract(
    config: NetworkConfig, transform: ImageTransform, tokenizer: Tokenizer, sha256: str
) -> dict[str, Any]:
    """What a model's card says of how it reads pictures and texts."""
    image, text = config.image, text_part(config)
    return {
        "activation of the image tower": _activation(image),
        "activation of the text tower": _activation(text),
        "image size": transform.image_size,
        "mean": list(transform.mean),
        "std": list(transform.std),
        "resize": f"{transform.resize}, {transform.interpolation}",
        "pooling of images": getattr(image, "pooling", "as built"),
        "pooling of texts": getattr(text, "pooling", "as built"),
        "tokenizer": tokenizer.kind,
        "files of the tokenizer": tokenizer.to_dict()["sha256"],
        "vocabulary": tokenizer.vocab_size,
        "context length": tokenizer.context_length,
        "bos, eos and padding": [tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id],
        "ids around a text": [list(tokenizer.prefix), list(tokenizer.suffix)],
        "sha256 of the weights": sha256,
    }


def check_contract(config: NetworkConfig, transform: ImageTransform, tokenizer: Tokenizer) -> None:
    """Towers, transform and tokenizer must speak of the same pictures and tokens."""
    text = text_part(config)
    pairs: list[tuple[str, Any, Any]] = [
        ("transform.image_size", config.image.image_size, transform.image_size),
        ("tokenizer.vocab_size", text.vocab_size, tokenizer.vocab_size),
    ]
    if isinstance(text, TextEncoderConfig) and text.pooling == "eos":
        pairs.append(("tokenizer.eos_id", text.eos_id, tokenizer.eos_id))
    for name, expected, got in pairs:
        if expected != got:
            raise ValueError(f"{name}: expected {expected}, as the model has it, got {got}")
    longest, exact = text.context_length, getattr(text, "attends_padding", False)
    if tokenizer.context_length > longest or (exact and tokenizer.context_length < longest):
        raise ValueError(
            f"tokenizer.context_length: expected {'' if exact else 'at most '}{longest}, got {tokenizer.context_length}"
        )


def check_stored(stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """The contract in a card must be what the config beside it comes to; ValueError names where it is not."""
    for key, expected in stored.items():
        if now.get(key) != expected:
            raise ValueError(f"contract: {key}: expected {expected!r}, as it was saved, got {now.get(key)!r}")


def text_part(config: NetworkConfig) -> Any:
    """The config of what reads texts or, where nothing does, writes them."""
    return getattr(config, "text", None) or getattr(config, "question", None) or config.decoder  # type: ignore[union-attr]


def _activation(part: Any) -> str:
    if isinstance(part, OpenClipImageConfig | OpenClipTextConfig):
        return "quick_gelu" if part.quick_gelu else "as built"
    return part.activation

"""The contract between a network and its preprocessors: if it is broken, results are silently worse."""

from collections.abc import Mapping
from typing import Any

from multimodal.models import encoder_configs
from multimodal.preprocess.preprocessor import Preprocessor
from multimodal.zoo.weights import CheckpointError

# What a card tells beside the table of a preprocessor
OF_PREPROCESSORS = ("bos_id", "eos_id", "pad_id", "prefix", "suffix", "fingerprint")
OF_ENCODERS = ("activation", "pooling")


def contract(config: Any, inputs: Mapping[str, Preprocessor], sha256: str) -> dict[str, Any]:
    """How a model reads its inputs, for its card: facts by modality, and the hash of its weights."""
    encoders = encoder_configs(config)
    facts: dict[str, Any] = {}
    for modality, preprocessor in inputs.items():
        facts[modality] = preprocessor.to_dict()
        for part, keys in ((encoders.get(modality), OF_ENCODERS), (preprocessor, OF_PREPROCESSORS)):
            found = {key: getattr(part, key) for key in keys if hasattr(part, key)}
            facts[modality] |= {key: list(v) if isinstance(v, tuple) else v for key, v in found.items()}  # as in JSON
    return facts | {"weights_sha256": sha256}


def check_contract(config: Any, inputs: Mapping[str, Preprocessor]) -> None:
    """Raise CheckpointError if an encoder, or the decoder, was made for other inputs than its preprocessor gives."""
    parts: list[tuple[str, Any]] = [*encoder_configs(config).items()]
    if getattr(config, "decoder", None) is not None:
        parts.append(("text", config.decoder))
    for modality, part in parts:
        if modality not in inputs:
            raise CheckpointError(f"inputs: expected a preprocessor for {modality!r}, got only {sorted(inputs)}")
        preprocessor = inputs[modality]
        pairs = _pairs(part, preprocessor, "image_size", "vocab_size")
        # The end token tells where a text ends: for pooling, and for a mask of the padding.
        if getattr(part, "pooling", "") == "eos" or not getattr(part, "attends_padding", True):
            pairs += _pairs(part, preprocessor, "eos_id")
        for key, expected, got in pairs:
            if expected != got:
                raise CheckpointError(f"inputs.{modality}.{key}: expected {expected} as in the model, got {got}")
        exact = getattr(part, "attends_padding", False)
        for _, longest, got in _pairs(part, preprocessor, "context_length"):
            if got > longest or (exact and got < longest):
                raise CheckpointError(
                    f"inputs.{modality}.context_length: expected {'' if exact else 'at most '}{longest}, got {got}"
                )


def check_stored(stored: Mapping[str, Any], now: Mapping[str, Any], where: str = "contract") -> None:
    """Raise CheckpointError if the contract in a card differs from the contract of the config beside it."""
    for key, expected in stored.items():
        got = now.get(key)
        if isinstance(expected, dict) and isinstance(got, dict):
            check_stored(expected, got, f"{where}.{key}")
        elif expected != got:
            raise CheckpointError(f"{where}.{key}: expected {expected!r} as saved, got {got!r}")


def _pairs(part: Any, preprocessor: Any, *keys: str) -> list[tuple[str, Any, Any]]:
    """The values of the fields that both have."""
    return [
        (key, getattr(part, key), getattr(preprocessor, key))
        for key in keys
        if hasattr(part, key) and hasattr(preprocessor, key)
    ]

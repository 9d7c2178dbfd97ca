"""Tokenizers in the files of transformers: tokenizer.json and tokenizer_config.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.preprocess import HFTokenizer, read_definition
from multimodal.preprocess.tokenizers.definition import parse
from multimodal.zoo.formats.format import read_json
from multimodal.zoo.weights import CheckpointError

# A network may have more embeddings than its tokenizer has tokens: for padding, and for BLIP's [DEC] and [ENC].
MAX_UNUSED = 64
# In tokenizer_config.json, and in the normalizer of BERT in tokenizer.json
BERT_OPTIONS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def read_tokenizer(folder: Path) -> tuple[str, dict[str, Any]]:
    """The tokenizer.json of a folder, possibly built from older files, and its tokenizer_config.json.

    Raises CheckpointError for padding or truncation on the left.
    """
    settings = read_json(folder / "tokenizer_config.json", {})
    # The class of SigLIP 2 pads on the left unless told otherwise, but its networks expect padding on the right.
    siglip2 = str(settings.get("tokenizer_class")).startswith("Siglip2")
    for key, default in (("padding_side", "left" if siglip2 else "right"), ("truncation_side", "right")):
        side = settings.get(key, default)
        if side != "right":
            raise CheckpointError(f"{folder}: tokenizer: {key}: expected 'right', got {side!r}")
    return read_definition(folder, settings.get("do_lower_case", True)), settings


def check_tokenizer(
    folder: Path, tokenizer: HFTokenizer, settings: Mapping[str, Any], vocab_size: int
) -> None:
    """Raise CheckpointError if the two files of a tokenizer contradict each other, or the vocabulary of the model."""
    definition = tokenizer.definition
    normalizer = json.loads(definition).get("normalizer") or {}
    if normalizer.get("type") == "BertNormalizer":
        for key, theirs in BERT_OPTIONS.items():
            if key in settings and settings[key] != normalizer.get(theirs):
                raise CheckpointError(
                    f"{folder}: tokenizer: {key}: expected {normalizer.get(theirs)!r} as in tokenizer.json, "
                    f"got {settings[key]!r} in tokenizer_config.json"
                )
    if not 0 <= vocab_size - tokenizer.tokens <= MAX_UNUSED:
        raise CheckpointError(
            f"{folder}: tokenizer: expected a vocabulary of {vocab_size} as in the model, got {tokenizer.tokens}"
        )


def check_ends(tokenizer: HFTokenizer, prefix: tuple[int, ...], suffix: tuple[int, ...]) -> None:
    """Raise CheckpointError if a tokenizer.json puts other ids around a text than the model was trained with."""
    if (tokenizer.prefix, tokenizer.suffix) != (prefix, suffix):
        raise CheckpointError(
            f"tokenizer: expected the ids {prefix} before a text and {suffix} after it, "
            f"got {tokenizer.prefix} and {tokenizer.suffix}"
        )


def token_name(token: Any) -> str:
    """A token of tokenizer_config.json: a string, or a table with its content."""
    return str(token["content"] if isinstance(token, dict) else token)


def token_ids(definition: str, *tokens: Any) -> list[int]:
    """The ids of tokens in a tokenizer.json. Raises CheckpointError if it does not have them."""
    library = parse(definition)
    names = [token_name(token) for token in tokens]
    ids = [library.token_to_id(name) for name in names]
    missing = [name for name, number in zip(names, ids, strict=True) if number is None]
    if missing:
        raise CheckpointError(
            f"tokenizer: expected the tokens {names} in its vocabulary, got none for {missing}"
        )
    return [number for number in ids if number is not None]

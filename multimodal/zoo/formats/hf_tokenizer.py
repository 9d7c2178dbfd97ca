"""Tokenizers of third-party checkpoints, in the files of transformers: tokenizer.json and tokenizer_config.json."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.preprocess import ClipTokenizer, HFSettings, HFTokenizer, Tokenizer, read_tokenizer_json
from multimodal.preprocess.texts.tokenizer_json import parse
from multimodal.zoo.weights import CheckpointError, read_json

# A network may have more embeddings than its tokenizer has tokens: for padding, and for BLIP's [DEC] and [ENC].
MAX_UNUSED = 64
# In open_clip, it may have many more (CLIPA: 32,000 for the 30,522 tokens of BERT), or fewer, because no text contains
# some tokens. Vocabularies that differ by more than this share belong to different models.
MAX_DIFFERENCE = 0.05
# In tokenizer_config.json, and in the normalizer of BERT in tokenizer.json
BERT_OPTIONS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def read_files(folder: Path) -> tuple[str, dict[str, Any]]:
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
    return read_tokenizer_json(folder, settings.get("do_lower_case", True)), settings


def build_tokenizer(
    folder: Path, tokenizer_json: str, settings: Mapping[str, Any], text: Any, **fields: Any
) -> HFTokenizer:
    """The tokenizer of a folder. text: config of the encoder or decoder that reads it. fields: of `HFSettings`

    Raises CheckpointError if it does not put `bos_id` (if the model has one) before a text and `eos_id` after it, if
    its vocabulary does not fit the model, and if the two files contradict each other.
    """
    tokenizer = HFTokenizer(tokenizer_json, HFSettings(text.context_length, vocab_size=text.vocab_size, **fields))
    prefix = () if tokenizer.bos_id is None else (tokenizer.bos_id,)
    if (tokenizer.prefix, tokenizer.suffix) != (prefix, (tokenizer.eos_id,)):
        raise CheckpointError(
            f"tokenizer: expected the ids {prefix} before a text and {(tokenizer.eos_id,)} after it, "
            f"got {tokenizer.prefix} and {tokenizer.suffix}"
        )
    if not 0 <= tokenizer.vocab_size - tokenizer.num_tokens <= MAX_UNUSED:
        raise CheckpointError(
            f"{folder}: tokenizer: expected a vocabulary for the {tokenizer.vocab_size} embeddings of the model, "
            f"got {tokenizer.num_tokens} tokens"
        )
    normalizer = json.loads(tokenizer_json).get("normalizer") or {}
    for key, theirs in BERT_OPTIONS.items() if normalizer.get("type") == "BertNormalizer" else ():
        if key in settings and settings[key] != normalizer.get(theirs):
            raise CheckpointError(
                f"{folder}: tokenizer: {key}: expected {normalizer.get(theirs)!r} as in tokenizer.json, "
                f"got {settings[key]!r} in tokenizer_config.json"
            )
    return tokenizer


def read_open_clip_tokenizer(text_cfg: Mapping[str, Any], beside: Path, given: Path | None, text: Any) -> Tokenizer:
    """CLIP's tokenizer or, if text_cfg names one of the hub, the tokenizer.json in the folder `given` or `beside`.

    text: the config of the text encoder. Raises CheckpointError if the tokenizer does not fit it.
    """
    name = text_cfg.get("hf_tokenizer_name")
    if not name:
        if given is not None:
            raise ValueError(f"tokenizer: expected None, because the model has CLIP's own, got {given}")
        return ClipTokenizer(text.context_length)
    folder = beside if given is None else given
    tokenizer_json = read_tokenizer_json(folder, expected=f"the tokenizer.json of {name} beside the weights")
    settings, kwargs = read_json(folder / "tokenizer_config.json", {}), text_cfg.get("tokenizer_kwargs") or {}
    tokens = {
        "pad_id": settings.get("pad_token") or ("[PAD]" if "[PAD]" in tokenizer_json else "<pad>"),
        "eos_id": settings.get("eos_token"),
        "zeroed_id": "[SEP]" if kwargs.get("strip_sep_token") else None,
    }
    tokens = {field: token for field, token in tokens.items() if token}
    fields: dict[str, Any] = dict(zip(tokens, token_ids(tokenizer_json, *tokens.values()), strict=True))
    fields |= {"clean": kwargs.get("clean", "whitespace"), "vocab_size": text.vocab_size}
    tokenizer = HFTokenizer(tokenizer_json, HFSettings(text.context_length, **fields))
    size, got = text.vocab_size, tokenizer.num_tokens
    if abs(got - size) > MAX_DIFFERENCE * size:
        raise CheckpointError(f"tokenizer: expected about {size} tokens as in the model, got {got} in {folder}")
    expected = getattr(text, "hf_config", {}).get("pad_token_id", tokenizer.pad_id)
    if tokenizer.pad_id != expected:
        raise CheckpointError(f"tokenizer.pad_id: expected {expected} as in the model, got {tokenizer.pad_id}")
    return tokenizer


def token_ids(tokenizer_json: str, *tokens: Any) -> list[int]:
    """The ids of tokens in a tokenizer.json. Raises CheckpointError if it does not have them.

    tokens: strings, or tables with a content, as in tokenizer_config.json
    """
    library = parse(tokenizer_json)
    names = [str(token["content"] if isinstance(token, dict) else token) for token in tokens]
    ids = [library.token_to_id(name) for name in names]
    missing = [name for name, number in zip(names, ids, strict=True) if number is None]
    if missing:
        raise CheckpointError(f"tokenizer: expected the tokens {names} in its vocabulary, got none for {missing}")
    return [number for number in ids if number is not None]

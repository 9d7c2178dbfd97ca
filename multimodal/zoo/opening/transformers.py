"""CLIP, SigLIP and BLIP as transformers saves them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.preprocess import HFSettings, HFTokenizer, Tokenizer, lower_cased, read_definition
from multimodal.zoo.contract import text_part
from multimodal.zoo.formats import transformers_blip, transformers_clip
from multimodal.zoo.opening.foreign import Foreign, about, check_ends, read_json, token_ids
from multimodal.zoo.opening.image_processor import transformers_transform
from multimodal.zoo.weights import find_weights, read_weights

SPARE = (
    64  # vectors that a network may have more than its tokenizer has tokens: padding, BLIP's [DEC] and [ENC]
)
GEMMA = ("GemmaTokenizer", "GemmaTokenizerFast", "Siglip2Tokenizer", "Siglip2TokenizerFast")
# In tokenizer_config.json, and in the normaliser of BERT in tokenizer.json
BERT_OPTIONS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def open_transformers(folder: Path, table: Mapping[str, Any]) -> Foreign:
    """CLIP, SigLIP or BLIP, from the folder that `save_pretrained` writes."""
    kind = table["model_type"]
    format: Any = transformers_blip if kind == "blip" else transformers_clip
    config = format.network(table)
    transform = transformers_transform(folder, kind, config.image.image_size)
    tokenizer = transformers_tokenizer(folder, table, text_part(config))
    path = find_weights(folder)
    weights = format.weights(read_weights(path), config)
    return Foreign(folder.name, config, weights, transform, tokenizer, about("transformers", path))


def transformers_tokenizer(folder: Path, table: Mapping[str, Any], text: Any) -> Tokenizer:
    """That of a folder of transformers, for the text encoder or decoder `text` of the model that `table` tells of.

    Raises ValueError for one of another vocabulary, other special tokens, or padding on the left.
    """
    settings = read_json(folder / "tokenizer_config.json", {})
    name = str(settings.get("tokenizer_class"))
    for key in ("padding_side", "truncation_side"):
        # The class of SigLIP 2 pads on the left unless told otherwise; its networks read it on the right.
        usual = "left" if key == "padding_side" and name.startswith("Siglip2") else "right"
        side = settings.get(key, usual)
        if side != "right":
            raise ValueError(f"{folder}: tokenizer: {key}: expected 'right', got {side!r}")
    definition = read_definition(folder, settings.get("do_lower_case", True))
    if table["model_type"] == "siglip":
        tokenizer = _siglip(definition, settings, name, text)
    else:
        tokenizer = _with_ends(definition, settings, table, text)
    _same_options(folder, settings, definition)
    size = tokenizer.tokens
    if not 0 <= text.vocab_size - size <= SPARE:
        raise ValueError(
            f"{folder}: tokenizer: expected a vocabulary of {text.vocab_size}, as the model has it, got {size}"
        )
    return tokenizer


def _with_ends(
    definition: str, settings: Mapping[str, Any], table: Mapping[str, Any], text: Any
) -> HFTokenizer:
    """CLIP's or BLIP's: a token before each text and one after it."""
    blip = table["model_type"] == "blip"
    if not blip:
        names = [
            _token(settings, "bos_token", "<|startoftext|>"),
            _token(settings, "eos_token", "<|endoftext|>"),
        ]
        bos, eos = token_ids(definition, *names)
        pad = eos  # as good as any other: the network never sees it
    else:
        names = [_token(settings, f"{key}_token", f"[{key.upper()}]") for key in ("cls", "sep", "pad")]
        bos, eos, pad = token_ids(definition, *names)
        theirs = transformers_clip.filled(table, "text_config", transformers_blip.TEXT)
        expected = [theirs["sep_token_id"], theirs["pad_token_id"]]
        if [eos, pad] != expected:
            raise ValueError(
                f"tokenizer: expected {names[1:]} to be {expected}, as the model has it, got {[eos, pad]}"
            )
    tokenizer = HFTokenizer(
        definition,
        HFSettings(
            text.context_length,
            bos_id=bos,
            eos_id=eos,
            pad_id=pad,
            clean_up=blip and settings.get("clean_up_tokenization_spaces", False),
            vocab_size=text.vocab_size,
        ),
    )
    check_ends(tokenizer, (bos,), (eos,))
    return tokenizer


def _siglip(definition: str, settings: Mapping[str, Any], name: str, text: Any) -> HFTokenizer:
    """SigLIP's, which drops marks and pads with the end of texts; or that of SigLIP 2, Gemma's in lower case."""
    gemma = name in GEMMA
    if settings.get("do_lower_case", True) is not True:
        raise ValueError(
            f"tokenizer: do_lower_case: expected True for SigLIP, got {settings['do_lower_case']!r}"
        )
    pad_name, eos_name = ("<pad>", "<eos>") if gemma else ("</s>", "</s>")
    pad, eos = token_ids(
        definition, _token(settings, "pad_token", pad_name), _token(settings, "eos_token", eos_name)
    )
    tokenizer = HFTokenizer(
        lower_cased(definition) if gemma else definition,
        HFSettings(
            text.context_length,
            pad_id=pad,
            clean="siglip" if not gemma and name.startswith(("None", "Siglip")) else "none",
            # Gemma's tokenizer.json does not say it, its class puts them there.
            prefix=() if settings.get("add_bos_token") is False else None,
            suffix=(eos,) if settings.get("add_eos_token") is True else None,
            vocab_size=text.vocab_size,
        ),
    )
    check_ends(tokenizer, (), (eos,))
    return tokenizer


def _token(settings: Mapping[str, Any], key: str, usual: str) -> str:
    token = settings.get(key) or usual
    return str(token["content"] if isinstance(token, dict) else token)


def _same_options(folder: Path, settings: Mapping[str, Any], definition: str) -> None:
    """ValueError where tokenizer_config.json says of BERT's normaliser what tokenizer.json does not."""
    normalizer = json.loads(definition).get("normalizer") or {}
    if normalizer.get("type") != "BertNormalizer":
        return
    for key, theirs in BERT_OPTIONS.items():
        if key in settings and settings[key] != normalizer.get(theirs):
            raise ValueError(
                f"{folder}: tokenizer: {key}: expected {normalizer.get(theirs)!r}, as tokenizer.json has it, "
                f"got {settings[key]!r} in tokenizer_config.json"
            )

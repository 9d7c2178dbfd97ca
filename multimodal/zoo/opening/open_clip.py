"""Models of open_clip, of which nearly all is in their config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.encoders import OpenClipTextConfig, TextConfig
from multimodal.preprocess import (
    ClipTokenizer,
    HFSettings,
    HFTokenizer,
    ImageTransform,
    Tokenizer,
    read_definition,
)
from multimodal.zoo.contract import text_part
from multimodal.zoo.formats import open_clip
from multimodal.zoo.formats.hf_towers import tower_config
from multimodal.zoo.opening.foreign import (
    TRANSFORMERS_CONFIG,
    Foreign,
    about,
    read_json,
    token_ids,
    vocabulary_size,
)
from multimodal.zoo.weights import find_weights, read_weights

RESIZES = {"shortest": "crop", "squash": "squash", "longest": "pad"}  # open_clip's names, and ours
# A network may have more vectors than there are tokens, such as CLIPA's 32,000 for the 30,522 of BERT, and a
# tokenizer marks that no text has. Further apart the two are not of one model.
SPARE = 0.05


def open_open_clip(
    name: str,
    weights: Path,
    table: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    tokenizer: str | Path | None = None,
) -> Foreign:
    """A checkpoint of open_clip. weights: a file, or a folder with one.

    tokenizer: the folder with its files, which lie beside the weights where None. ValueError for CLIP's own, which
        is in the package.
    preprocess: what is known of its pictures and, of a tag, of its activation; ValueError where that is another.
    """
    path = find_weights(weights) if weights.is_dir() else weights
    quick = table.get("quick_gelu", False)
    if preprocess.get("quick_gelu", quick) != quick:
        expected, got = ("quick_gelu", "gelu") if preprocess["quick_gelu"] else ("gelu", "quick_gelu")
        architecture, mark, tag = name.partition(":")
        other = architecture.removesuffix("-quickgelu") + ("-quickgelu" if expected == "quick_gelu" else "")
        raise ValueError(
            f"activation: expected {expected}, as {name} was trained, got {got}; load {other + mark + tag!r} instead"
        )
    hf_config = {}
    tower = table["text_cfg"].get("hf_model_name")
    if tower:
        hf_config = tower_config(tower, read_json(path.parent / TRANSFORMERS_CONFIG, {}))
    config = open_clip.network(table, hf_config)
    size = preprocess.get("size", config.image.image_size)
    transform = ImageTransform(
        size if isinstance(size, int) else size[0],
        resize=_known(RESIZES, preprocess.get("resize_mode", "shortest"), "resize_mode"),
        **{key: preprocess[key] for key in ("mean", "std", "interpolation") if preprocess.get(key)},
    )
    tokens = open_clip_tokenizer(table["text_cfg"], path.parent, tokenizer, text_part(config))
    state = open_clip.weights(read_weights(path), config)
    return Foreign(name, config, state, transform, tokens, about("open_clip", path))


def open_clip_tokenizer(
    cfg: Mapping[str, Any], beside: Path, given: str | Path | None, text: TextConfig
) -> Tokenizer:
    """CLIP's own, or the tokenizer.json in the folder `given`, or `beside`, where the config names one of a hub.

    ValueError where it is another than that of the text tower.
    """
    folder = beside if given is None else Path(given)
    if not cfg.get("hf_tokenizer_name"):
        if given is not None:
            raise ValueError(f"tokenizer: expected none, as the model has CLIP's own, got {given}")
        return ClipTokenizer(text.context_length)
    try:
        definition = read_definition(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder}: expected the tokenizer.json of {cfg['hf_tokenizer_name']} beside the weights, got none"
        ) from error
    tokens = vocabulary_size(definition)
    if abs(tokens - text.vocab_size) > SPARE * text.vocab_size:
        raise ValueError(
            f"tokenizer: expected about {text.vocab_size} tokens, as the model has it, got {tokens} in {folder}"
        )
    settings, kwargs = read_json(folder / "tokenizer_config.json", {}), cfg.get("tokenizer_kwargs") or {}
    pad = settings.get("pad_token") or ("[PAD]" if "[PAD]" in definition else "<pad>")
    [pad_id] = token_ids(definition, _token(pad))
    [eos_id] = token_ids(definition, _token(settings["eos_token"])) if settings.get("eos_token") else [None]
    expected = text.hf_config.get("pad_token_id", pad_id) if isinstance(text, OpenClipTextConfig) else pad_id
    if pad_id != expected:
        raise ValueError(f"tokenizer.pad_id: expected {expected}, as the model has it, got {pad_id}")
    blank = token_ids(definition, "[SEP]")[0] if kwargs.get("strip_sep_token") else None
    return HFTokenizer(
        definition,
        HFSettings(
            text.context_length,
            pad_id=pad_id,
            eos_id=eos_id,
            clean=kwargs.get("clean", "whitespace"),
            blank_id=blank,
            vocab_size=text.vocab_size,
        ),
    )


def _token(entry: Any) -> str:
    """A token of a tokenizer_config.json, which has it as a string or, with what it takes away, as a table."""
    return entry["content"] if isinstance(entry, dict) else entry


def _known(names: Mapping[str, str], name: Any, key: str) -> str:
    if name not in names:
        raise ValueError(f"{key}: expected one of {sorted(names)}, got {name!r}")
    return names[name]

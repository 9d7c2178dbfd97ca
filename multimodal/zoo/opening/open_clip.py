"""Models of open_clip, of which nearly all is in their config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from multimodal.zoo.opening.foreign import TRANSFORMERS_CONFIG, Foreign, about, read_json, token_ids
from multimodal.zoo.reading import find_weights, read_weights

RESIZES = {"shortest": "crop", "squash": "squash", "longest": "pad"}  # open_clip's names, and ours


def open_open_clip(
    name: str,
    weights: Path,
    table: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    tokenizer: str | Path | None = None,
) -> Foreign:
    """A checkpoint of open_clip. weights: a file, or a folder with one.

    tokenizer: the folder with its files, which lie beside the weights where None.
    preprocess: what is known of its pictures and, of a tag, of its activation; ValueError where that is another.
    """
    path = find_weights(weights) if weights.is_dir() else weights
    quick = table.get("quick_gelu", False)
    if preprocess.get("quick_gelu", quick) != quick:
        expected, got = ("quick_gelu", "gelu") if preprocess["quick_gelu"] else ("gelu", "quick_gelu")
        other = (
            f"{name.partition(':')[0]}-quickgelu"
            if expected == "quick_gelu"
            else name.replace("-quickgelu", "")
        )
        raise ValueError(
            f"activation: expected {expected}, as {name} was trained, got {got}; load {other!r} instead"
        )
    hf_config = {}
    if table["text_cfg"].get("hf_model_name"):
        hf_config = read_json(path.parent / TRANSFORMERS_CONFIG, table.get("hf_config"))
    config = open_clip.network(table, hf_config)
    size = preprocess.get("size", config.image.image_size)
    transform = ImageTransform(
        size if isinstance(size, int) else size[0],
        resize=_known(RESIZES, preprocess.get("resize_mode", "shortest"), "resize_mode"),
        **{key: preprocess[key] for key in ("mean", "std", "interpolation") if preprocess.get(key)},
    )
    folder = path.parent if tokenizer is None else Path(tokenizer)
    tokens = open_clip_tokenizer(table["text_cfg"], folder, text_part(config).context_length)
    state = open_clip.weights(read_weights(path), config)
    return Foreign(name, config, state, transform, tokens, about("open_clip", path))


def open_clip_tokenizer(cfg: Mapping[str, Any], folder: Path, context_length: int) -> Tokenizer:
    """CLIP's own, or the tokenizer.json in the folder where the config names one of a hub."""
    if not cfg.get("hf_tokenizer_name"):
        return ClipTokenizer(context_length)
    try:
        definition = read_definition(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder}: expected the tokenizer.json of {cfg['hf_tokenizer_name']} beside the weights, got none"
        ) from error
    settings, kwargs = read_json(folder / "tokenizer_config.json", {}), cfg.get("tokenizer_kwargs") or {}
    pad = settings.get("pad_token") or ("[PAD]" if "[PAD]" in definition else "<pad>")
    [pad_id] = token_ids(definition, pad["content"] if isinstance(pad, dict) else pad)
    blank = token_ids(definition, "[SEP]")[0] if kwargs.get("strip_sep_token") else None
    return HFTokenizer(
        definition,
        HFSettings(
            context_length,
            pad_id=pad_id,
            clean=kwargs.get("clean", "whitespace"),
            blank_id=blank,
            vocab_size=cfg.get("vocab_size"),
        ),
    )


def _known(names: Mapping[str, str], name: Any, key: str) -> str:
    if name not in names:
        raise ValueError(f"{key}: expected one of {sorted(names)}, got {name!r}")
    return names[name]

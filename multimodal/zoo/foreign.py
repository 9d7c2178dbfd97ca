"""Checkpoints of others, opened: open_clip's, those of transformers, and BLIP's original files."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from multimodal.encoders.image import positions_for
from multimodal.models import ImageCaptionerConfig, NetworkConfig
from multimodal.preprocess import (
    ClipTokenizer,
    HFSettings,
    HFTokenizer,
    ImageTransform,
    Tokenizer,
    lower_cased,
    read_definition,
)
from multimodal.zoo.formats import open_clip, salesforce, transformers_blip, transformers_clip
from multimodal.zoo.reading import find_weights, read_weights

OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG = "open_clip_config.json", "config.json"
RESIZES = {"shortest": "crop", "squash": "squash", "longest": "pad"}  # open_clip's names, and ours
HALF = (0.5, 0.5, 0.5)
PIL_BILINEAR = 2


@dataclass(frozen=True)
class Foreign:
    """A checkpoint with everything translated, not built yet."""

    name: str
    config: NetworkConfig
    weights: dict[str, Tensor]  # by our names
    transform: ImageTransform
    tokenizer: Tokenizer
    card: dict[str, Any]


def open_folder(folder: Path) -> Foreign:
    """What open_clip or transformers has saved. ValueError where it is of neither kind."""
    if (folder / OPEN_CLIP_CONFIG).is_file():
        table = read_json(folder / OPEN_CLIP_CONFIG)
        if not isinstance(table.get("model_cfg"), dict):
            raise ValueError(f"{folder / OPEN_CLIP_CONFIG}: expected a table model_cfg, got {sorted(table)}")
        return open_open_clip(folder.name, folder, table["model_cfg"], table.get("preprocess_cfg") or {})
    table = read_json(folder / TRANSFORMERS_CONFIG)
    kind = table.get("model_type")
    if kind not in ("clip", "siglip", "blip"):
        raise ValueError(
            f"{folder / TRANSFORMERS_CONFIG}: expected the config of this package, or of a model of transformers "
            f"with model_type 'clip', 'siglip' or 'blip', got model_type {kind!r}"
        )
    return open_transformers(folder, table)


def open_transformers(folder: Path, table: Mapping[str, Any]) -> Foreign:
    """CLIP, SigLIP or BLIP, from the folder that `save_pretrained` writes."""
    blip = table["model_type"] == "blip"
    path = find_weights(folder)
    config: Any = (transformers_blip if blip else transformers_clip).network(table)
    weights = (transformers_blip if blip else transformers_clip).weights(read_weights(path), config)
    length = config.decoder.context_length if blip and not hasattr(config, "text") else None
    text = getattr(config, "text", None) or getattr(config, "question", None)
    length = text.context_length if text is not None else length
    tokenizer = transformers_tokenizer(folder, table, length)
    transform = transformers_transform(folder, table["model_type"], config.image.image_size)
    return Foreign(folder.name, config, weights, transform, tokenizer, about("transformers", path))


def transformers_tokenizer(folder: Path, table: Mapping[str, Any], context_length: int) -> Tokenizer:
    """That of a folder of transformers."""
    settings = read_json(folder / "tokenizer_config.json", {})
    definition = read_definition(folder, settings.get("do_lower_case", True))
    if table["model_type"] == "blip":
        text = transformers_clip.filled(table, "text_config", transformers_blip.TEXT)
        ids = token_ids(definition, "[CLS]", "[SEP]", "[PAD]")
        if ids[1:] != [text["sep_token_id"], text["pad_token_id"]]:
            expected = [text["sep_token_id"], text["pad_token_id"]]
            raise ValueError(
                f"tokenizer: expected [SEP] and [PAD] to be {expected}, as the model has it, got {ids[1:]}"
            )
        return HFTokenizer(
            definition,
            HFSettings(
                context_length,
                bos_id=ids[0],
                eos_id=ids[1],
                pad_id=ids[2],
                clean_up=settings.get("clean_up_tokenization_spaces", True),
                vocab_size=text["vocab_size"],
            ),
        )
    siglip = table["model_type"] == "siglip"
    defaults = transformers_clip.SIGLIP_TEXT if siglip else transformers_clip.CLIP_TEXT
    text = transformers_clip.filled(table, "text_config", defaults)
    if not siglip:
        bos, eos = token_ids(definition, "<|startoftext|>", "<|endoftext|>")
        return HFTokenizer(
            definition,
            HFSettings(context_length, bos_id=bos, eos_id=eos, pad_id=eos, vocab_size=text["vocab_size"]),
        )
    if "siglip" in str(settings.get("tokenizer_class", "Siglip")).lower():
        clean = "siglip"
    else:  # SigLIP 2 has the tokenizer of Gemma
        definition, clean = lower_cased(definition), "none"
    [pad] = token_ids(definition, str(settings.get("pad_token", "</s>")))
    return HFTokenizer(
        definition, HFSettings(context_length, pad_id=pad, clean=clean, vocab_size=text["vocab_size"])
    )


def transformers_transform(folder: Path, kind: str, image_size: int) -> ImageTransform:
    """That of preprocessor_config.json or, where there is none, of the class of this kind."""
    table = read_json(folder / "preprocessor_config.json", {})
    table = table.get("image_processor", table)
    crops = table.get("do_center_crop", kind == "clip")
    size = table.get("crop_size" if crops else "size") or image_size
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    usual = {"mean": HALF, "std": HALF} if kind == "siglip" else {}
    given = {
        name: tuple(table[key])
        for name, key in (("mean", "image_mean"), ("std", "image_std"))
        if table.get(key) is not None
    }
    interpolation = "bilinear" if table.get("resample") == PIL_BILINEAR else "bicubic"
    return ImageTransform(
        size, resize="crop_floor" if crops else "squash", interpolation=interpolation, **(usual | given)
    )


def open_open_clip(
    name: str,
    weights: Path,
    table: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    tokenizer: str | Path | None = None,
) -> Foreign:
    """A checkpoint of open_clip. weights: a file, or a folder with one.

    tokenizer: the folder with its files, which lie beside the weights where None. preprocess: what is known of its pictures and, of a tag, of its activation; ValueError where that is another.
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
    tokens = open_clip_tokenizer(table["text_cfg"], folder, config.text.context_length)
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


def open_salesforce(path: Path, state: Mapping[str, Tensor], tokenizer: Path | None) -> Foreign:
    """An original BLIP file. tokenizer: the folder with the vocab.txt of bert-base-uncased; None: its own."""
    config = salesforce.network(state)
    folder = path.parent if tokenizer is None else tokenizer
    try:
        definition = read_definition(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path}: expected the vocab.txt or tokenizer.json of bert-base-uncased beside it, or its folder as "
            "`tokenizer`, got none"
        ) from error
    text = (
        config.decoder
        if isinstance(config, ImageCaptionerConfig)
        else getattr(config, "text", None) or config.question
    )
    bos, eos, pad = token_ids(definition, "[CLS]", "[SEP]", "[PAD]")
    settings = HFSettings(
        text.context_length, bos_id=bos, eos_id=eos, pad_id=pad, clean_up=True, vocab_size=text.vocab_size
    )
    transform = ImageTransform(config.image.image_size, resize="squash")
    named = salesforce.weights(state, config)
    return Foreign(
        path.stem, config, named, transform, HFTokenizer(definition, settings), about("Salesforce BLIP", path)
    )


def with_positions(foreign: Foreign, image_size: int | None, interpolate: bool) -> Foreign:
    """`foreign` for pictures of another size: that of its transform, or `image_size`.

    ValueError where that needs positions between the learned ones, unless `interpolate`.
    """
    config = foreign.config
    wanted = foreign.transform.image_size if image_size is None else image_size
    if wanted == config.image.image_size:
        return foreign
    if not interpolate:
        raise ValueError(
            f"image_size: expected {config.image.image_size}, as the model was trained, got {wanted}; "
            "interpolate_positions=True lets it have another"
        )
    [key] = [name for name in foreign.weights if name.endswith("image_encoder.positions")] or [None]
    if key is None:
        raise ValueError(
            f"image_size: expected {config.image.image_size} for a tower that is not ours, got {wanted}"
        )
    side = wanted // config.image.patch_size
    positions = positions_for(foreign.weights[key], (side, side))
    return replace(
        foreign,
        config=replace(config, image=replace(config.image, image_size=wanted)),
        weights=foreign.weights | {key: positions},
        transform=replace(foreign.transform, image_size=wanted),
    )


def token_ids(definition: str, *tokens: str) -> list[int]:
    """The ids of tokens in a tokenizer.json. ValueError where it has none."""
    from tokenizers import Tokenizer as Library

    library = Library.from_str(definition)
    ids = [library.token_to_id(token) for token in tokens]
    if None in ids:
        raise ValueError(f"tokenizer: expected {list(tokens)} in its vocabulary, got {ids}")
    return ids


def about(format: str, path: Path) -> dict[str, Any]:
    """What the card says of the origin."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"about": f"A checkpoint of {format}.", "weights": {"file": path.name, "sha256": sha256}}


def read_json(path: Path, default: Any = None) -> dict[str, Any]:
    """A table of JSON; `default` where there is no such file. ValueError for anything else."""
    if not path.is_file():
        if default is None:
            raise FileNotFoundError(f"{path.parent}: expected {path.name}, got none")
        return default
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(table, dict):
        raise ValueError(f"{path}: expected a table, got {type(table).__name__}")
    return table


def _known(names: Mapping[str, str], name: Any, key: str) -> str:
    if name not in names:
        raise ValueError(f"{key}: expected one of {sorted(names)}, got {name!r}")
    return names[name]

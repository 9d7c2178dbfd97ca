"""CLIP, SigLIP and BLIP as transformers saves them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multimodal.preprocess import (
    HFSettings,
    HFTokenizer,
    ImageTransform,
    Tokenizer,
    lower_cased,
    read_definition,
)
from multimodal.zoo.contract import text_part
from multimodal.zoo.formats import transformers_blip, transformers_clip
from multimodal.zoo.opening.foreign import Foreign, about, read_json, token_ids
from multimodal.zoo.reading import find_weights, read_weights

HALF = (0.5, 0.5, 0.5)
PIL_BILINEAR = 2


def open_transformers(folder: Path, table: Mapping[str, Any]) -> Foreign:
    """CLIP, SigLIP or BLIP, from the folder that `save_pretrained` writes."""
    blip = table["model_type"] == "blip"
    path = find_weights(folder)
    format: Any = transformers_blip if blip else transformers_clip
    config = format.network(table)
    weights = format.weights(read_weights(path), config)
    tokenizer = transformers_tokenizer(folder, table, text_part(config).context_length)
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
    size: Any = table.get("crop_size" if crops else "size") or image_size
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

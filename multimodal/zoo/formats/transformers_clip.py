"""CLIP, SigLIP and Chinese-CLIP in the format of transformers: a folder with config.json, weights and processor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import DualEncoderConfig
from multimodal.preprocess import HFTokenizer, lower_cased
from multimodal.zoo.formats import names
from multimodal.zoo.formats.format import FORMATS
from multimodal.zoo.formats.hf_tokenizer import build_tokenizer, read_files, token_ids
from multimodal.zoo.formats.transformers_folder import UNKNOWN_ID, TransformersFormat, read_part, transformer_fields
from multimodal.zoo.weights import CheckpointError

POOLINGS = {"clip": "eos", "siglip": "last", "chinese_clip": "cls"}
PARTS = ("vision_model.", "text_model.", "visual_projection.", "text_projection.")
EMBEDDINGS = "text_model.embeddings."
QKV = [f".self_attn.{part}_proj." for part in "qkv"]
GEMMA = ("GemmaTokenizer", "GemmaTokenizerFast", "Siglip2Tokenizer", "Siglip2TokenizerFast")


def read_model(table: Mapping[str, Any]) -> DualEncoderConfig:
    """The model of a config.json with model_type "clip", "siglip" or "chinese_clip", or of one of their towers."""
    kind, tower = table["model_type"], table.get("tower")
    siglip = kind == "siglip"
    vision, text = read_part(table, "vision_config"), read_part(table, "text_config")
    if siglip and vision.get("vision_use_head", True) is not True:
        raise CheckpointError(f"vision_use_head: expected True, got {vision['vision_use_head']!r}")
    eos_id = UNKNOWN_ID if kind == "chinese_clip" else text["eos_token_id"]
    if kind == "clip" and eos_id == 2:  # a mistake in early configs: the end token has the highest id
        eos_id = text["vocab_size"] - 1
    image_encoder = ImageEncoderConfig(
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        pooling="map" if siglip else "token",
        norm_input=not siglip,
        crop_to_patches=bool(vision["image_size"] % vision["patch_size"]),
        **transformer_fields(vision),
    )
    text_encoder = TextEncoderConfig(
        vocab_size=text["vocab_size"],
        context_length=text["max_position_embeddings"],
        causal=kind == "clip",
        norm_order="post" if kind == "chinese_clip" else "pre",
        pooling=POOLINGS[kind],
        eos_id=eos_id,
        pad_id=text["pad_token_id"],
        attends_padding=siglip,
        **transformer_fields(text),
    )
    encoders = {"image": image_encoder, "text": text_encoder}
    embed_dim, projections = table.get("projection_dim", 512), dict.fromkeys(encoders, "linear")
    if siglip:
        projections = {"image": "none", "text": "affine"}
        embed_dim = vision["hidden_size"] if tower == "image" else text.get("projection_size") or text["hidden_size"]
    if tower is not None:
        encoders, projections = {tower: encoders[tower]}, {tower: projections[tower]}
    logit_bias = -10.0 if siglip and tower is None else None
    return DualEncoderConfig(encoders=encoders, embed_dim=embed_dim, projections=projections, logit_bias=logit_bias)


def read_tokenizer(folder: Path, table: Mapping[str, Any], text: TextEncoderConfig) -> HFTokenizer:
    """The tokenizer of CLIP puts a token before each text and one after it; the tokenizer of SigLIP removes
    punctuation and pads with the end token; the tokenizer of SigLIP 2 is Gemma's in lower case, and the one of
    Chinese-CLIP is BERT's."""
    tokenizer_json, settings = read_files(folder)

    def ids(**defaults: str) -> list[int]:
        return token_ids(tokenizer_json, *(settings.get(key) or default for key, default in defaults.items()))

    if table["model_type"] == "clip":
        bos_id, eos_id = ids(bos_token="<|startoftext|>", eos_token="<|endoftext|>")
        special = {"bos_id": bos_id, "eos_id": eos_id, "pad_id": eos_id}  # CLIP never attends to its padding
        return build_tokenizer(folder, tokenizer_json, settings, text, **special)
    if table["model_type"] == "chinese_clip":
        bos_id, eos_id, pad_id = ids(cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]")
        special = {"bos_id": bos_id, "eos_id": eos_id, "pad_id": pad_id}
        return build_tokenizer(folder, tokenizer_json, settings, text, **special)
    if settings.get("do_lower_case", True) is not True:
        raise CheckpointError(f"tokenizer: do_lower_case: expected True for SigLIP, got {settings['do_lower_case']!r}")
    name = str(settings.get("tokenizer_class"))
    gemma = name in GEMMA
    pad, eos = ("<pad>", "<eos>") if gemma else ("</s>", "</s>")
    pad_id, eos_id = ids(pad_token=pad, eos_token=eos)
    return build_tokenizer(
        folder,
        lower_cased(tokenizer_json) if gemma else tokenizer_json,
        settings,
        text,
        eos_id=eos_id,
        pad_id=pad_id,
        clean="siglip" if not gemma and name.startswith(("None", "Siglip")) else "none",
        # The class of Gemma adds these tokens itself; its tokenizer.json does not say so.
        prefix=() if settings.get("add_bos_token") is False else None,
        suffix=(eos_id,) if settings.get("add_eos_token") is True else None,
    )


def convert_weights(state: Mapping[str, Tensor], config: DualEncoderConfig) -> dict[str, Tensor]:
    """The state dict of one of the classes, or of one tower, by the names of our network of `config`."""
    if len(config.encoders) == 1:  # the towers without a projection of their own leave out the first part of the name
        part = "vision_model." if "image" in config.encoders else "text_model."
        state = {name if name.startswith(PARTS) else part + name: tensor for name, tensor in state.items()}
    bert = [f".attention.self.{part}." for part in ("query", "key", "value")]
    state = names.fuse(names.fuse(state, QKV, ".self_attn.qkv."), bert, ".attention.self.qkv.")
    types = state.pop(f"{EMBEDDINGS}token_type_embeddings.weight", None)
    if types is not None:  # all tokens have the first type
        positions = state[f"{EMBEDDINGS}position_embeddings.weight"]
        state[f"{EMBEDDINGS}position_embeddings.weight"] = positions.float() + types[0].float()
    named = names.convert(state, names.rules("transformers_clip"))
    if len(config.encoders) == 1:
        named.setdefault("logit_scale", torch.tensor(config.logit_scale))  # without a meaning for one modality
    return named


FORMATS.register(
    "transformers_clip",
    TransformersFormat(("clip", "siglip", "chinese_clip"), read_model, read_tokenizer, convert_weights),
)

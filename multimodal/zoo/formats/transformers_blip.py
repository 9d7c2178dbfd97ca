"""BLIP in the format of transformers: a folder with config.json, weights, tokenizer and processor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multimodal.decoders import TextDecoderConfig
from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import BlipAnswererConfig, BlipMatcherConfig, EncoderDecoderConfig
from multimodal.preprocess import HFTokenizer
from multimodal.zoo.formats import names
from multimodal.zoo.formats.format import FORMATS
from multimodal.zoo.formats.hf_tokenizer import build_tokenizer, read_files, token_ids
from multimodal.zoo.formats.transformers_folder import TransformersFormat, read_part, transformer_fields
from multimodal.zoo.weights import CheckpointError

KINDS = [f"BlipFor{task}" for task in ("ConditionalGeneration", "ImageTextRetrieval", "QuestionAnswering")]
CAPTIONER, MATCHER, ANSWERER = KINDS
GENERATION = {"max_new_tokens": 20}  # the default of `generate` in transformers


def read_model(table: Mapping[str, Any], matching_id: int | None = None) -> Any:
    """The model of a config.json with model_type "blip"; its `architectures` say which of the three `KINDS` it is.

    matching_id: of the token that replaces the first one of a text that is compared with an image, if one does
    """
    vision, text = read_part(table, "vision_config"), read_part(table, "text_config")
    if not 0 <= text["bos_token_id"] < text["vocab_size"]:
        raise CheckpointError(
            f"text_config: bos_token_id: expected 0 to {text['vocab_size'] - 1}, got {text['bos_token_id']}"
        )
    image = ImageEncoderConfig(
        image_size=vision["image_size"], patch_size=vision["patch_size"], **transformer_fields(vision)
    )
    common: dict[str, Any] = {
        "vocab_size": text["vocab_size"],
        "context_length": text["max_position_embeddings"],
        "norm_order": "post",
        **transformer_fields(text),
    }
    encoder = TextEncoderConfig(
        **common, causal=False, pooling="cls", eos_id=text["sep_token_id"], pad_id=text["pad_token_id"]
    )
    decoder = TextDecoderConfig(**common, head="bert", bos_id=text["bos_token_id"])
    kinds = table.get("architectures")
    if not isinstance(kinds, list) or len(kinds) != 1 or kinds[0] not in KINDS:
        raise CheckpointError(f"architectures: expected one of {KINDS}, got {kinds}")
    encoders = {"image": image, "text": encoder}
    if kinds == [CAPTIONER]:
        return EncoderDecoderConfig(encoder=image, decoder=decoder, pooled_in_memory=True, generation=GENERATION)
    if kinds == [ANSWERER]:
        return BlipAnswererConfig(encoders=encoders, decoder=decoder, matching_id=matching_id, generation=GENERATION)
    return BlipMatcherConfig(
        encoders=encoders,
        embed_dim=table.get("image_text_hidden_size", 256),
        projections=dict.fromkeys(encoders, "affine"),
        matching_id=matching_id,
    )


def read_tokenizer(folder: Path, table: Mapping[str, Any], text: Any) -> HFTokenizer:
    """The tokenizer of BERT, with [CLS] before each text and [SEP] after it."""
    tokenizer_json, settings = read_files(folder)
    tokens = [settings.get(f"{key}_token") or f"[{key.upper()}]" for key in ("cls", "sep", "pad")]
    bos_id, eos_id, pad_id = token_ids(tokenizer_json, *tokens)
    theirs = read_part(table, "text_config")
    expected = [theirs["sep_token_id"], theirs["pad_token_id"]]
    if [eos_id, pad_id] != expected:
        raise CheckpointError(
            f"tokenizer: expected {tokens[1:]} to be {expected} as in the model, got {[eos_id, pad_id]}"
        )
    special = {"bos_id": bos_id, "eos_id": eos_id, "pad_id": pad_id}
    clean_up = settings.get("clean_up_tokenization_spaces", False)
    return build_tokenizer(folder, tokenizer_json, settings, text, clean_up_tokenization_spaces=clean_up, **special)


def convert_weights(state: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """The state dict of one of the three classes, or of an original file, by the names of our network of `config`."""
    state = dict(state)
    bias = "text_decoder.cls.predictions.bias"
    if bias in state:  # in older files the only bias of the head, whose weight is only in the embedding
        state.setdefault("text_decoder.cls.predictions.decoder.bias", state[bias])
    qkv = [f".attention.self.{part}." for part in ("query", "key", "value")]
    kv = [f".crossattention.self.{part}." for part in ("key", "value")]
    state = names.fuse(names.fuse(state, qkv, ".attention.self.qkv."), kv, ".crossattention.self.kv.")
    named = names.convert(state, names.rules("blip"))
    # The head shares the weights of the embedding, see `TextDecoderConfig.tie_embeddings`.
    head = named.pop("decoder.head.linear.weight", None)
    if head is not None and not head.equal(named["decoder.embedding.weight"]):
        raise CheckpointError("weights: expected a head with the weights of the embedding, got different ones")
    if hasattr(config, "logit_scale"):  # the matcher of transformers has no scale for its cosines
        named.setdefault("logit_scale", torch.tensor(config.logit_scale))
    return named


FORMATS.register("transformers_blip", TransformersFormat(("blip",), read_model, read_tokenizer, convert_weights))

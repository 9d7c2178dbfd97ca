"""BLIP in the format of transformers: a folder with config.json, weights, tokenizer and processor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from multimodal.decoders import TextDecoderConfig
from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import BlipAnswererConfig, BlipMatcherConfig, EncoderDecoderConfig
from multimodal.preprocess import HFSettings, HFTokenizer
from multimodal.zoo.checkpoint import Checkpoint, third_party
from multimodal.zoo.formats.format import CONFIG, FORMATS, read_config, read_json, refuse_tokenizer
from multimodal.zoo.formats.hf_tokenizer import check_ends, check_tokenizer, read_tokenizer, token_ids
from multimodal.zoo.formats.image_processor import read_transform
from multimodal.zoo.formats.names import (
    BERT_BLOCK,
    HF_BLOCK,
    flatten_image_tensors,
    fuse,
    rename,
    rules_within,
)
from multimodal.zoo.formats.transformers_folder import VIT, fill_defaults, transformer_fields
from multimodal.zoo.weights import CheckpointError, find_weights, read_weights

# What a config.json leaves out: the defaults of `BlipConfig` of transformers
VISION = VIT | {"image_size": 384, "patch_size": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-5}
TEXT = {
    "vocab_size": 30524,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 512,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "bos_token_id": 30522,
    "sep_token_id": 102,
    "pad_token_id": 0,
}
CAPTIONER, MATCHER, ANSWERER = (
    f"BlipFor{task}" for task in ("ConditionalGeneration", "ImageTextRetrieval", "QuestionAnswering")
)
GENERATION = {"max_new_tokens": 20}  # the default of `generate` in transformers


class TransformersBlipFormat:
    """A folder that `save_pretrained` of one of the three classes of BLIP has written."""

    def recognises(self, path: Path) -> bool:
        return read_config(path).get("model_type") == "blip"

    def open(self, path: Path, tokenizer: Path | None) -> Checkpoint:
        refuse_tokenizer(path, tokenizer)
        table = read_json(path / CONFIG)
        config = read_model(table)
        vision, text = (
            fill_defaults(table, "vision_config", VISION),
            fill_defaults(table, "text_config", TEXT),
        )
        inputs = {
            "image": read_transform(path, "blip", vision["image_size"]),
            "text": read_bert_tokenizer(path, text),
        }
        file = find_weights(path)
        weights = convert_weights(read_weights(file), config)
        return third_party("transformers", path.name, file, config, weights, inputs)


def read_model(table: Mapping[str, Any]) -> Any:
    """The model of a config.json with model_type "blip"; its `architectures` say which of three it is."""
    vision, text = fill_defaults(table, "vision_config", VISION), fill_defaults(table, "text_config", TEXT)
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
    if kinds == [CAPTIONER]:
        return captioner(image, decoder)
    if kinds == [ANSWERER]:
        return answerer(image, encoder, decoder)
    if kinds == [MATCHER]:
        return matcher(image, encoder, table.get("image_text_hidden_size", 256))
    raise CheckpointError(f"architectures: expected one of {[CAPTIONER, MATCHER, ANSWERER]}, got {kinds}")


def captioner(image: ImageEncoderConfig, decoder: TextDecoderConfig) -> EncoderDecoderConfig:
    return EncoderDecoderConfig(encoder=image, decoder=decoder, pooled_in_memory=True, generation=GENERATION)


def answerer(
    image: ImageEncoderConfig,
    question: TextEncoderConfig,
    decoder: TextDecoderConfig,
    matching_id: int | None = None,
) -> BlipAnswererConfig:
    encoders = {"image": image, "text": question}
    return BlipAnswererConfig(
        encoders=encoders, decoder=decoder, matching_id=matching_id, generation=GENERATION
    )


def matcher(
    image: ImageEncoderConfig, text: TextEncoderConfig, embed_dim: int, matching_id: int | None = None
) -> BlipMatcherConfig:
    return BlipMatcherConfig(
        encoders={"image": image, "text": text},
        embed_dim=embed_dim,
        projections={"image": "affine", "text": "affine"},
        matching_id=matching_id,
    )


def read_bert_tokenizer(folder: Path, text: Mapping[str, Any]) -> HFTokenizer:
    """The tokenizer of BERT, with [CLS] before each text and [SEP] after it. text: the text_config of the model"""
    definition, settings = read_tokenizer(folder)
    names = [settings.get(f"{key}_token") or f"[{key.upper()}]" for key in ("cls", "sep", "pad")]
    bos_id, eos_id, pad_id = token_ids(definition, *names)
    expected = [text["sep_token_id"], text["pad_token_id"]]
    if [eos_id, pad_id] != expected:
        raise CheckpointError(
            f"tokenizer: expected {names[1:]} to be {expected} as in the model, got {[eos_id, pad_id]}"
        )
    fields = HFSettings(
        text["max_position_embeddings"],
        bos_id=bos_id,
        eos_id=eos_id,
        pad_id=pad_id,
        clean_up=settings.get("clean_up_tokenization_spaces", False),
        vocab_size=text["vocab_size"],
    )
    tokenizer = HFTokenizer(definition, fields)
    check_ends(tokenizer, (bos_id,), (eos_id,))
    check_tokenizer(folder, tokenizer, settings, text["vocab_size"])
    return tokenizer


def convert_weights(state: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """The state dict of one of the three classes, by the names of our network of `config`."""
    image = "encoders.image."
    rules = [
        (r".*\.position_ids", ""),  # not learned
        (r"text_decoder\.cls\.predictions\.bias", ""),  # the same as decoder.bias
        (r"logit_scale", "logit_scale"),
        (r"vision_model\.embeddings\.class_embedding", f"{image}class_token"),
        (r"vision_model\.embeddings\.position_embedding", f"{image}positions"),
        (r"vision_model\.embeddings\.patch_embedding\.(.*)", rf"{image}patches.\1"),
        *rules_within(r"vision_model\.encoder\.layers\.(\d+)\.", HF_BLOCK, rf"{image}blocks.\1."),
        (r"vision_model\.post_layernorm\.(.*)", rf"{image}norm.\1"),
        *bert_rules(r"text_encoder\.", "encoders.text."),
        *bert_rules(r"text_decoder\.bert\.", "decoder."),
        (r"text_decoder\.cls\.predictions\.transform\.dense\.(.*)", r"decoder.head.dense.\1"),
        (r"text_decoder\.cls\.predictions\.transform\.LayerNorm\.(.*)", r"decoder.head.norm.\1"),
        (r"text_decoder\.cls\.predictions\.decoder\.(.*)", r"decoder.head.linear.\1"),
        (r"vision_proj\.(.*)", r"projections.image.\1"),
        (r"text_proj\.(.*)", r"projections.text.\1"),
        (r"itm_head\.(.*)", r"matching_head.\1"),
    ]
    state = dict(state)
    bias = "text_decoder.cls.predictions.bias"
    if bias in state:  # in older files the only bias of the head, whose weight is only in the embedding
        state.setdefault("text_decoder.cls.predictions.decoder.bias", state[bias])
    for attention, parts in (("attention", ("query", "key", "value")), ("crossattention", ("key", "value"))):
        fused = f".{attention}.self.{'qkv' if 'query' in parts else 'kv'}."
        state = fuse(state, [f".{attention}.self.{part}." for part in parts], fused)
    named = rename(state, rules)
    flatten_image_tensors(named)
    # The head shares the weights of the embedding, see `TextDecoderConfig.tie_embeddings`.
    head = named.pop("decoder.head.linear.weight", None)
    if head is not None and not head.equal(named["decoder.embedding.weight"]):
        raise CheckpointError(
            "weights: expected a head with the weights of the embedding, got different ones"
        )
    if hasattr(config, "logit_scale"):  # the matcher of transformers has no scale for its cosines
        named.setdefault("logit_scale", torch.tensor(config.logit_scale))
    return named


def bert_rules(theirs: str, ours: str) -> list[tuple[str, str]]:
    return [
        (rf"{theirs}embeddings\.word_embeddings\.(.*)", rf"{ours}embedding.\1"),
        (rf"{theirs}embeddings\.position_embeddings\.weight", f"{ours}positions"),
        (rf"{theirs}embeddings\.LayerNorm\.(.*)", rf"{ours}embedding_norm.\1"),
        *rules_within(rf"{theirs}encoder\.layer\.(\d+)\.", BERT_BLOCK, rf"{ours}blocks.\1."),
    ]


FORMATS.register("transformers_blip", TransformersBlipFormat())

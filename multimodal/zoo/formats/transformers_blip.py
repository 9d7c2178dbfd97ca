"""BLIP as transformers keeps it: config.json and state dict."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from multimodal.decoders import TextDecoderConfig
from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import AnswererConfig, ImageCaptionerConfig, MatcherConfig, NetworkConfig
from multimodal.zoo.formats.names import BERT_BLOCK, HF_BLOCK, flattened, fused, renamed, within
from multimodal.zoo.formats.transformers_clip import VIT, filled, vit_fields

# What a config.json leaves out (`BlipConfig` of transformers).
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
    "BlipForConditionalGeneration",
    "BlipForImageTextRetrieval",
    "BlipForQuestionAnswering",
)


def network(table: Mapping[str, Any]) -> NetworkConfig:
    """The network of a config.json with model_type "blip"; `architectures` says which of the three it is."""
    vision, text = filled(table, "vision_config", VISION), filled(table, "text_config", TEXT)
    image = ImageEncoderConfig(
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        **vit_fields(vision),
    )
    if not 0 <= text["bos_token_id"] < text["vocab_size"]:
        raise ValueError(
            f"text_config: bos_token_id: expected 0 to {text['vocab_size'] - 1}, got {text['bos_token_id']}"
        )
    common: dict[str, Any] = {
        "vocab_size": text["vocab_size"],
        "context_length": text["max_position_embeddings"],
        "norm": "post",
        **vit_fields(text),
    }
    encoder = TextEncoderConfig(
        **common,
        causal=False,
        pooling="cls",
        eos_id=text["sep_token_id"],
        pad_id=text["pad_token_id"],
        memory_width=image.width,
    )
    decoder = TextDecoderConfig(**common, bos_id=text["bos_token_id"])
    kinds = table.get("architectures")
    if kinds == [CAPTIONER]:
        return ImageCaptionerConfig(image, decoder)
    if kinds == [ANSWERER]:
        return AnswererConfig(image, encoder, decoder)
    if kinds == [MATCHER]:
        dim = table.get("image_text_hidden_size", 256)
        return MatcherConfig(image, encoder, dim, image_projection="affine", text_projection="affine")
    raise ValueError(f"architectures: expected one of {[CAPTIONER, MATCHER, ANSWERER]}, got {kinds}")


def weights(state: Mapping[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """A state dict of one of the three classes by the names of our network of `config`."""
    root = "dual." if isinstance(config, MatcherConfig) else ""
    encoder = f"{root}text_encoder." if isinstance(config, MatcherConfig) else "question_encoder."
    image = f"{root}image_encoder."
    rules = [
        (r".*\.position_ids", ""),  # made anew
        (r"text_decoder\.cls\.predictions\.bias", ""),  # the same as decoder.bias
        (r"logit_scale", f"{root}logit_scale"),
        (r"vision_model\.embeddings\.class_embedding", f"{image}class_token"),
        (r"vision_model\.embeddings\.position_embedding", f"{image}positions"),
        (r"vision_model\.embeddings\.patch_embedding\.(.*)", rf"{image}patches.\1"),
        *within(r"vision_model\.encoder\.layers\.(\d+)\.", HF_BLOCK, rf"{image}blocks.\1."),
        (r"vision_model\.post_layernorm\.(.*)", rf"{image}norm.\1"),
        *bert_rules(r"text_encoder\.", encoder),
        *bert_rules(r"text_decoder\.bert\.", "decoder."),
        (r"text_decoder\.cls\.predictions\.transform\.dense\.(.*)", r"decoder.transform.0.\1"),
        (r"text_decoder\.cls\.predictions\.transform\.LayerNorm\.(.*)", r"decoder.norm.\1"),
        (r"text_decoder\.cls\.predictions\.decoder\.(.*)", r"decoder.head.\1"),
        (r"vision_proj\.(.*)", r"dual.image_projection.\1"),
        (r"text_proj\.(.*)", r"dual.text_projection.\1"),
        (r"itm_head\.(.*)", r"head.\1"),
    ]
    state = dict(state)
    bias = "text_decoder.cls.predictions.bias"
    if bias in state:  # older files have the head's bias there alone, and its weight in the embedding alone
        state.setdefault("text_decoder.cls.predictions.decoder.bias", state[bias])
    state = fused(
        state, [f".attention.self.{part}." for part in ("query", "key", "value")], ".attention.self.qkv."
    )
    state = fused(
        state, [f".crossattention.self.{part}." for part in ("key", "value")], ".crossattention.self.kv."
    )
    named = renamed(state, rules)
    flattened(named, image)
    # The head is the embedding, see `TextDecoderConfig.tie_embeddings`.
    if "decoder.head.weight" in named and not named["decoder.head.weight"].equal(
        named["decoder.embedding.weight"]
    ):
        raise ValueError("weights: expected a head that shares the weights of the embedding, got another")
    named.pop("decoder.head.weight", None)
    if isinstance(config, MatcherConfig):  # its cosines have no scale
        named.setdefault("dual.logit_scale", torch.tensor(config.logit_scale))
    return named


def bert_rules(theirs: str, ours: str) -> list[tuple[str, str]]:
    return [
        (rf"{theirs}embeddings\.word_embeddings\.(.*)", rf"{ours}embedding.\1"),
        (rf"{theirs}embeddings\.position_embeddings\.weight", f"{ours}positions"),
        (rf"{theirs}embeddings\.LayerNorm\.(.*)", rf"{ours}embedding_norm.\1"),
        *within(rf"{theirs}encoder\.layer\.(\d+)\.", BERT_BLOCK, rf"{ours}blocks.\1."),
    ]

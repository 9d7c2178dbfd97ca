"""The original BLIP files (.pth, a state dict under "model"; Li et al. 2022): no config, the weights tell all."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from multimodal.decoders import TextDecoderConfig
from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.models import AnswererConfig, ImageCaptionerConfig, MatcherConfig, NetworkConfig
from multimodal.zoo.formats import transformers_blip
from multimodal.zoo.formats.names import flattened, renamed, timm_rules

ADDED = 2  # [DEC], with which the decoder begins, and [ENC] follow the vocabulary of BERT
HEAD = 64  # width of an attention head, in all of them
# Only for training: momentum copies, queues and the temperature of distillation.
TRAINING = re.compile(r"(.*_m\..*|.*_queue|.*queue_ptr|ptr_queue)")


def recognised(state: Mapping[str, Tensor]) -> bool:
    return "visual_encoder.cls_token" in state


def network(state: Mapping[str, Tensor], eos_id: int) -> NetworkConfig:
    """The network that the shapes of a state dict describe. ValueError where one is missing.

    eos_id: that of [SEP], with which texts end.
    """
    _, places, width = _shape(state, "visual_encoder.pos_embed", 3)
    patch = _shape(state, "visual_encoder.patch_embed.proj.weight", 4)[-1]
    image = ImageEncoderConfig(
        image_size=math.isqrt(places - 1) * patch,
        patch_size=patch,
        width=width,
        layers=_count(state, r"visual_encoder\.blocks\.(\d+)\..*"),
        heads=width // HEAD,
        mlp_ratio=_shape(state, "visual_encoder.blocks.0.mlp.fc1.weight", 2)[0] / width,
        eps=1e-6,
    )
    writes, reads = "text_decoder.bert.embeddings.word_embeddings.weight" in state, "itm_head.weight" in state
    bert = "text_decoder.bert." if writes else "text_encoder."
    vocab, hidden = _shape(state, f"{bert}embeddings.word_embeddings.weight", 2)
    common: dict[str, Any] = {
        "vocab_size": vocab,
        "width": hidden,
        "layers": _count(state, re.escape(bert) + r"encoder\.layer\.(\d+)\..*"),
        "heads": hidden // HEAD,
        "mlp_ratio": _shape(state, f"{bert}encoder.layer.0.intermediate.dense.weight", 2)[0] / hidden,
        "norm": "post",
        "eps": 1e-12,
        "context_length": _shape(state, f"{bert}embeddings.position_embeddings.weight", 2)[0],
    }
    if vocab <= ADDED:
        raise ValueError(f"weights: expected the vocabulary of BERT and {ADDED} more, got {vocab}")
    dec, enc = vocab - 2, vocab - 1
    encoder = TextEncoderConfig(**common, causal=False, pooling="cls", eos_id=eos_id, memory_width=width)
    decoder = TextDecoderConfig(**common, bos_id=dec)
    if reads and not writes:
        dim = _shape(state, "vision_proj.weight", 2)[0]
        return MatcherConfig(
            image, encoder, dim, image_projection="affine", text_projection="affine", matching_id=enc
        )
    if writes and "text_encoder.embeddings.word_embeddings.weight" in state and not reads:
        return AnswererConfig(image, encoder, decoder, matching_id=enc)
    return ImageCaptionerConfig(image, decoder)


def weights(state: Mapping[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """The state dict by the names of our network of `config`. A pretrained model that matches and writes
    becomes a captioner."""
    kept = {key: tensor for key, tensor in state.items() if not TRAINING.fullmatch(key)}
    temperature = kept.pop("temp", None)
    if isinstance(config, ImageCaptionerConfig):
        other = ("text_encoder.", "vision_proj.", "text_proj.", "itm_head.")
        kept = {key: tensor for key, tensor in kept.items() if not key.startswith(other)}
    root = "dual." if isinstance(config, MatcherConfig) else ""
    image = f"{root}image_encoder."
    vit = {key: tensor for key, tensor in kept.items() if key.startswith("visual_encoder.")}
    vit = renamed(vit, timm_rules(r"visual_encoder\.", image))
    flattened(vit, image)
    text = {key: tensor for key, tensor in kept.items() if not key.startswith("visual_encoder.")}
    named = vit | transformers_blip.weights(text, config)
    if temperature is not None and root:
        named["dual.logit_scale"] = -temperature.log().reshape(())
    return named


def _shape(state: Mapping[str, Tensor], key: str, dimensions: int) -> tuple[int, ...]:
    shape = tuple(state[key].shape) if key in state else None
    if shape is None or len(shape) != dimensions or 0 in shape:
        raise ValueError(f"weights: expected {key} of {dimensions} dimensions, got {shape or 'none'}")
    return shape


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many blocks there are."""
    found = (re.fullmatch(pattern, key) for key in state)
    return 1 + max((int(match[1]) for match in found if match), default=-1)

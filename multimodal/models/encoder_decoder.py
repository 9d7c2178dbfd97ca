"""An encoder and a decoder that attends to its features: BLIP's captioner, or a text-to-text model (T5, BART)."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.decoders import DECODERS, Decoder, DecoderConfig
from multimodal.encoders import ENCODERS, Encoder, EncoderConfig
from multimodal.layers import Encoded, Memory
from multimodal.models.network import MODELS, Inputs


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig:
    encoder: EncoderConfig
    decoder: DecoderConfig
    pooled_in_memory: bool = False  # the decoder also attends to the pooled vector, a class token (BLIP)
    generation: dict[str, Any] = field(default_factory=dict)  # see `Generates.defaults`


class GeneratesFromOneSource:
    """`Generates` for a network whose decoder attends to the features of one of its encoders."""

    encoders: nn.ModuleDict
    decoder: Decoder
    sources: tuple[str, ...]
    pooled_in_memory = False  # see `EncoderDecoderConfig`

    def memory(self, inputs: Inputs) -> Memory:
        """A batch of the source -> what the decoder attends to"""
        [source] = self.sources
        return self.memory_of(self.encoders[source](inputs[source]))

    def memory_of(self, encoded: Encoded) -> Memory:
        """The same for an output of the source's encoder."""
        return self.decoder.project_memory(with_pooled(encoded) if self.pooled_in_memory else encoded)


class EncoderDecoder(GeneratesFromOneSource, nn.Module):
    """Generates text from one input of the encoder's modality."""

    def __init__(self, encoder: Encoder, decoder: Decoder, pooled_in_memory: bool, defaults: dict[str, Any]) -> None:
        super().__init__()
        self.encoders, self.decoder = nn.ModuleDict({encoder.modality: encoder}), decoder
        self.sources = (encoder.modality,)
        self.pooled_in_memory, self.defaults = pooled_in_memory, defaults


def build_encoder_decoder(config: EncoderDecoderConfig) -> EncoderDecoder:
    encoder = ENCODERS.build(config.encoder)
    decoder = DECODERS.build(replace(config.decoder, memory_width=encoder.width))
    return EncoderDecoder(encoder, decoder, config.pooled_in_memory, config.generation)


def with_pooled(encoded: Encoded) -> Encoded:
    """The features with the pooled vector, a class token, before them: [B, N, W] -> [B, 1 + N, W]"""
    if encoded.features is None:
        return encoded
    mask = None if encoded.mask is None else torch.cat([torch.ones_like(encoded.mask[:, :1]), encoded.mask], 1)
    return Encoded(torch.cat([encoded.pooled[:, None], encoded.features], 1), encoded.pooled, mask)


def with_first_token(tokens: Tensor, token: int | None) -> Tensor:
    """tokens [B, L] with `token` in the first place; None leaves them as they are."""
    if token is None:
        return tokens
    return torch.cat([torch.full_like(tokens[:, :1], token), tokens[:, 1:]], 1)


MODELS.register("encoder_decoder", EncoderDecoderConfig, build_encoder_decoder)

"""Captioner: a dual encoder, and a decoder that looks at the image features (CoCa, Yu et al. 2022).

B = batch, L = tokens, S = image side in pixels, N = image features, W = their width, V = vocabulary
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor

from multimodal.decoders import TextDecoder, TextDecoderConfig
from multimodal.encoders import TextEncoder
from multimodal.layers.features import Encoded
from multimodal.models.dual_encoder import DualEncoder, DualEncoderConfig, DualEncoding
from multimodal.models.writer import Writer


@dataclass(frozen=True)
class CaptionerConfig(DualEncoderConfig):
    decoder: TextDecoderConfig = field(default_factory=TextDecoderConfig)
    length_penalty: float = 1.0  # beams are compared by log-probability / length ** length_penalty


class CaptionerOutput(NamedTuple):
    dual: DualEncoding
    logits: Tensor  # [B', L - 1, V], for tokens 1.. of the rows that are captioned


class Captioner(Writer):
    """The image is encoded once, for its embedding and for the decoder."""

    config: CaptionerConfig  # set by `build`
    can = frozenset({"classify", "search", "caption"})

    def __init__(self, dual: DualEncoder, decoder: TextDecoder, length_penalty: float = 1.0) -> None:
        super().__init__()
        self.dual = dual
        self.decoder = decoder
        self.length_penalty = length_penalty

    @classmethod
    def from_config(cls, config: CaptionerConfig) -> "Captioner":
        dual = DualEncoder.from_config(config)
        decoder = TextDecoder(replace(config.decoder, memory_width=dual.image_width))
        if config.decoder.shared_layers:
            text = dual.text_encoder
            assert isinstance(text, TextEncoder)
            decoder.share(text.embedding, text.positions, text.blocks)
        return cls(dual, decoder, config.length_penalty)

    @property
    def logit_scale(self) -> Tensor:
        return self.dual.logit_scale

    @property
    def scale(self) -> Tensor:
        return self.dual.scale

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """images [B, 3, S, S] -> [B, D]"""
        return self.dual.encode_image(images, normalize)

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """tokens [B, L] -> [B, D]"""
        return self.dual.encode_text(tokens, normalize)

    def encode_memory(self, images: Tensor) -> Encoded:
        """images [B, 3, S, S] -> what the decoder looks at: features [B, N, W]"""
        return self.dual.image_encoder(images)

    def forward(self, images: Tensor, tokens: Tensor, captioning: Tensor | None = None) -> CaptionerOutput:
        """Everything at once, padding included. `captioning` [B] bool: the rows whose text the decoder learns.

        Training does the same in groups of similar length, see `training.objectives`.
        """
        encoded = self.dual.image_encoder(images)
        dual = DualEncoding(
            self.dual.project_image(encoded.pooled, True), self.encode_text(tokens, True), self.scale
        )
        features = encoded.features
        if captioning is not None:
            features, tokens = features[captioning], tokens[captioning]  # [B, ...] -> [B', ...]
        return CaptionerOutput(dual, self.decoder(tokens[:, :-1], Encoded(features, features[:, 0])))

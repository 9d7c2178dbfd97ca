"""BLIP (Li et al. 2022), as its checkpoints are split: one captions, one matches, one answers questions.

B = batch, L = tokens, Q = tokens of a question, S = image side in pixels, N = image features, W = their width
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from multimodal.decoders import TextDecoder, TextDecoderConfig
from multimodal.encoders import ImageConfig, TextEncoder, TextEncoderConfig, build_encoder
from multimodal.layers.features import Encoded
from multimodal.models.dual_encoder import DualEncoder, DualEncoderConfig
from multimodal.models.writer import Writer

MAX_NEW_TOKENS = (
    20  # what transformers writes unless asked: its decoders have 512 places, its captions 10 words
)


@dataclass(frozen=True)
class ImageCaptionerConfig:
    image: ImageConfig
    decoder: TextDecoderConfig
    length_penalty: float = 1.0  # beams are compared by log-probability / length ** length_penalty
    max_new_tokens: int = MAX_NEW_TOKENS


class ImageCaptioner(Writer):
    """An image encoder and a decoder that looks at its features; without a text encoder there is no search."""

    config: ImageCaptionerConfig  # set by `build`
    can = frozenset({"caption"})

    def __init__(
        self,
        image_encoder: nn.Module,
        decoder: TextDecoder,
        length_penalty: float = 1.0,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.decoder = decoder
        self.length_penalty = length_penalty
        self.max_new_tokens = max_new_tokens

    @classmethod
    def from_config(cls, config: ImageCaptionerConfig) -> "ImageCaptioner":
        image = build_encoder(config.image)
        decoder = TextDecoder(replace(config.decoder, memory_width=image.width))
        return cls(image, decoder, config.length_penalty, config.max_new_tokens)

    def encode_memory(self, images: Tensor) -> Encoded:
        """images [B, 3, S, S] -> features [B, N, W], the whole picture's among them"""
        return whole(self.image_encoder(images))


@dataclass(frozen=True)
class MatcherConfig(DualEncoderConfig):
    # takes the place of a text's first token when it is matched: [ENC] in the original files; None in those of
    # transformers, whose own model leaves [CLS] there
    matching_id: int | None = None


class Matcher(nn.Module):
    """A dual encoder whose text encoder can also look at a picture, and say whether text and picture match."""

    config: MatcherConfig  # set by `build`
    can = frozenset({"classify", "search", "match"})

    def __init__(self, dual: DualEncoder, width: int, matching_id: int | None = None) -> None:
        super().__init__()
        self.dual = dual
        self.head = nn.Linear(width, 2)  # does not match, matches
        self.matching_id = matching_id

    @classmethod
    def from_config(cls, config: MatcherConfig) -> "Matcher":
        dual = DualEncoder.from_config(config)
        return cls(dual, dual.text_width, config.matching_id)

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """images [B, 3, S, S] -> [B, D]"""
        return self.dual.encode_image(images, normalize)

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """tokens [B, L] -> [B, D]"""
        return self.dual.encode_text(tokens, normalize)

    def encode_memory(self, images: Tensor) -> Encoded:
        """images [B, 3, S, S] -> features [B, N, W], the whole picture's among them"""
        return whole(self.dual.image_encoder(images))

    def match(self, memory: Encoded, tokens: Tensor) -> Tensor:
        """tokens [B, L], of row b about picture b -> logits [B, 2]: does not match, matches"""
        if self.matching_id is not None:
            tokens = tokens.clone()
            tokens[:, 0] = self.matching_id
        assert isinstance(self.dual.text_encoder, TextEncoder)
        return self.head(self.dual.text_encoder(tokens, memory=memory).pooled)


@dataclass(frozen=True)
class AnswererConfig:
    image: ImageConfig
    question: TextEncoderConfig
    decoder: TextDecoderConfig
    matching_id: int | None = None  # takes the place of a question's first token, see `MatcherConfig`
    length_penalty: float = 1.0
    max_new_tokens: int = MAX_NEW_TOKENS


class Answerer(Writer):
    """A question is encoded while it looks at the picture; the decoder looks at the question."""

    config: AnswererConfig  # set by `build`
    can = frozenset({"answer"})

    def __init__(
        self,
        image_encoder: nn.Module,
        question_encoder: TextEncoder,
        decoder: TextDecoder,
        matching_id: int | None = None,
        length_penalty: float = 1.0,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.question_encoder = question_encoder
        self.decoder = decoder
        self.matching_id = matching_id
        self.length_penalty = length_penalty
        self.max_new_tokens = max_new_tokens

    @classmethod
    def from_config(cls, config: AnswererConfig) -> "Answerer":
        image = build_encoder(config.image)
        question = TextEncoder(replace(config.question, memory_width=image.width))
        decoder = TextDecoder(replace(config.decoder, memory_width=question.width))
        return cls(image, question, decoder, config.matching_id, config.length_penalty, config.max_new_tokens)

    def encode_question(self, images: Tensor, tokens: Tensor) -> Encoded:
        """images [B, 3, S, S], tokens [B, Q] -> what the decoder looks at: features [B, Q, W]"""
        if self.matching_id is not None:
            tokens = tokens.clone()
            tokens[:, 0] = self.matching_id
        return self.question_encoder(tokens, memory=whole(self.image_encoder(images)))


def whole(encoded: Encoded) -> Encoded:
    """The features with the pooled one, a class token, before them: BLIP's texts look at all of them."""
    return encoded._replace(
        features=torch.cat([encoded.pooled[:, None], encoded.features], 1)
    )  # [B, 1 + N, W]

"""BLIP (Li et al. 2022): a dual encoder whose text encoder can attend to the image, and a captioning decoder.

Its checkpoints come in parts: for retrieval (`BlipMatcher`), for captions (`EncoderDecoder`) and for questions
(`BlipAnswerer`). `Blip` is all that is pretrained together.

B = batch, L = tokens, Q = tokens of a question, S = image side in pixels
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from multimodal.decoders import DECODERS, Decoder, DecoderConfig
from multimodal.encoders import ENCODERS, Encoder, EncoderConfig
from multimodal.layers import Encoded, Memory
from multimodal.models.dual_encoder import DualEncoder, DualEncoderConfig, options
from multimodal.models.encoder_decoder import GeneratesFromOneSource, with_first_token, with_pooled
from multimodal.models.network import MODELS, Inputs


@dataclass(frozen=True, kw_only=True)
class BlipMatcherConfig(DualEncoderConfig):
    # Replaces the first token of a text that is matched: [ENC] in the original files; None in transformers' files,
    # whose model keeps [CLS]
    matching_id: int | None = None


class BlipMatcher(DualEncoder):
    """A dual encoder whose text encoder can attend to the image and judge whether the two match."""

    def __init__(self, *arguments: Any, matching_id: int | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.matching_id = matching_id
        self.matching_head = nn.Linear(self.encoders["text"].width, 2)  # type: ignore[arg-type]  # no match, match

    def match(self, inputs: Inputs) -> Tensor:
        """{"image": [B, 3, S, S], "text": [B, L]}, row b with row b -> logits [B, 2]: no match, match"""
        return self.match_encoded(self.encoders["image"](inputs["image"]), inputs["text"])

    def match_encoded(self, image: Encoded, tokens: Tensor) -> Tensor:
        """The same for images that are encoded already."""
        tokens = with_first_token(tokens, self.matching_id)
        return self.matching_head(self.encoders["text"](tokens, memory=with_pooled(image)).pooled)


@dataclass(frozen=True, kw_only=True)
class BlipConfig(BlipMatcherConfig):
    decoder: DecoderConfig
    generation: dict[str, Any] = field(default_factory=dict)  # see `Generates.defaults`


class Blip(GeneratesFromOneSource, BlipMatcher):
    """Contrastive, matching and captioning parts over one image encoder, to be trained together."""

    sources = ("image",)
    pooled_in_memory = True

    def __init__(self, *arguments: Any, decoder: Decoder, defaults: dict[str, Any], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.decoder, self.defaults = decoder, defaults


@dataclass(frozen=True, kw_only=True)
class BlipAnswererConfig:
    encoders: dict[str, EncoderConfig]  # "image", and "text" for the question
    decoder: DecoderConfig
    matching_id: int | None = None  # replaces the first token of a question, see `BlipMatcherConfig`
    generation: dict[str, Any] = field(default_factory=dict)


class BlipAnswerer(nn.Module):
    """The question encoder attends to the image, and the decoder to the question."""

    sources = ("image", "text")

    def __init__(
        self, encoders: Mapping[str, Encoder], decoder: Decoder, matching_id: int | None, defaults: dict[str, Any]
    ) -> None:
        super().__init__()
        self.encoders, self.decoder = nn.ModuleDict(encoders), decoder
        self.matching_id, self.defaults = matching_id, defaults

    def memory(self, inputs: Inputs) -> Memory:
        """{"image": [B, 3, S, S], "text": [B, Q]}, row b with row b -> what the decoder attends to"""
        image = with_pooled(self.encoders["image"](inputs["image"]))
        tokens = with_first_token(inputs["text"], self.matching_id)
        return self.decoder.project_memory(self.encoders["text"](tokens, memory=image))


def blip_encoders(configs: Mapping[str, Any]) -> dict[str, Encoder]:
    """Encoders by modality, the text encoder with cross-attention to the image features."""
    image = ENCODERS.build(configs["image"])
    return {"image": image, "text": ENCODERS.build(replace(configs["text"], memory_width=image.width))}


def build_matcher(config: BlipMatcherConfig) -> BlipMatcher:
    return BlipMatcher(blip_encoders(config.encoders), **options(config), matching_id=config.matching_id)


def build_blip(config: BlipConfig) -> Blip:
    encoders = blip_encoders(config.encoders)
    decoder = DECODERS.build(replace(config.decoder, memory_width=encoders["image"].width))
    return Blip(
        encoders, **options(config), matching_id=config.matching_id, decoder=decoder, defaults=config.generation
    )


def build_answerer(config: BlipAnswererConfig) -> BlipAnswerer:
    encoders = blip_encoders(config.encoders)
    decoder = DECODERS.build(replace(config.decoder, memory_width=encoders["text"].width))
    return BlipAnswerer(encoders, decoder, config.matching_id, config.generation)


MODELS.register("blip", BlipConfig, build_blip)
MODELS.register("blip_matcher", BlipMatcherConfig, build_matcher)
MODELS.register("blip_answerer", BlipAnswererConfig, build_answerer)

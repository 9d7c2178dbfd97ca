"""CoCa (Yu et al. 2022): a dual encoder, and a decoder that attends to the image features."""

from dataclasses import dataclass, field, replace
from typing import Any

from multimodal.decoders import DECODERS, Decoder, DecoderConfig
from multimodal.models.dual_encoder import DualEncoder, DualEncoderConfig, build_encoders, options
from multimodal.models.encoder_decoder import GeneratesFromOneSource
from multimodal.models.network import MODELS


@dataclass(frozen=True, kw_only=True)
class CoCaConfig(DualEncoderConfig):
    decoder: DecoderConfig
    source: str = "image"  # the modality that the decoder attends to
    # The blocks of the text encoder are the first blocks of the decoder, as in open_clip
    share_text_encoder: bool = False
    generation: dict[str, Any] = field(default_factory=dict)  # see `Generates.defaults`


class CoCa(GeneratesFromOneSource, DualEncoder):
    """A dual encoder whose `source` encoder also gives the features that `decoder` attends to."""

    def __init__(self, *arguments: Any, decoder: Decoder, source: str, defaults: dict[str, Any], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.decoder = decoder
        self.sources, self.defaults = (source,), defaults


def build_coca(config: CoCaConfig) -> CoCa:
    encoders = build_encoders(config.encoders)
    decoder_config = replace(config.decoder, memory_width=encoders[config.source].width)
    decoder = DECODERS.build(decoder_config, encoders["text"] if config.share_text_encoder else None)
    return CoCa(encoders, **options(config), decoder=decoder, source=config.source, defaults=config.generation)


MODELS.register("coca", CoCaConfig, build_coca)

"""Systems: compositions of encoders and decoders, and the protocols that say what each can do."""

from multimodal.models.blip import Blip, BlipAnswerer, BlipAnswererConfig, BlipConfig, BlipMatcher, BlipMatcherConfig
from multimodal.models.coca import CoCa, CoCaConfig
from multimodal.models.dual_encoder import MAX_LOGIT_SCALE, DualEncoder, DualEncoderConfig
from multimodal.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from multimodal.models.network import (
    MODELS,
    Embeds,
    Generates,
    Inputs,
    Matches,
    ModelConfig,
    abilities,
    build_model,
    cast,
    compute_dtype,
    encoder_configs,
)

__all__ = [
    "MAX_LOGIT_SCALE", "MODELS", "Blip", "BlipAnswerer", "BlipAnswererConfig", "BlipConfig", "BlipMatcher",
    "BlipMatcherConfig", "CoCa", "CoCaConfig", "DualEncoder", "DualEncoderConfig", "Embeds", "EncoderDecoder",
    "EncoderDecoderConfig", "Generates", "Inputs", "Matches", "ModelConfig", "abilities", "build_model", "cast",
    "compute_dtype", "encoder_configs",
]  # fmt: skip

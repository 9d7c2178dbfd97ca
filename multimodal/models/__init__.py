"""Systems: compositions of encoders and decoders."""

from multimodal.models.blip import (
    Answerer,
    AnswererConfig,
    ImageCaptioner,
    ImageCaptionerConfig,
    Matcher,
    MatcherConfig,
)
from multimodal.models.build import (
    Network,
    NetworkConfig,
    Trainable,
    TrainableConfig,
    build,
    network_config,
    network_table,
)
from multimodal.models.captioner import Captioner, CaptionerConfig, CaptionerOutput
from multimodal.models.dual_encoder import MAX_LOGIT_SCALE, DualEncoder, DualEncoderConfig, DualEncoding
from multimodal.models.writer import Writer

__all__ = [
    "MAX_LOGIT_SCALE",
    "Answerer",
    "AnswererConfig",
    "Captioner",
    "CaptionerConfig",
    "CaptionerOutput",
    "DualEncoder",
    "DualEncoderConfig",
    "DualEncoding",
    "ImageCaptioner",
    "ImageCaptionerConfig",
    "Matcher",
    "MatcherConfig",
    "Network",
    "NetworkConfig",
    "Trainable",
    "TrainableConfig",
    "Writer",
    "build",
    "network_config",
    "network_table",
]

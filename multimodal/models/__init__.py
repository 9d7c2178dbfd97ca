"""Systems: compositions of encoders and decoders."""

from multimodal.models.build import Network, NetworkConfig, build, network_config, network_table
from multimodal.models.captioner import Captioner, CaptionerConfig, CaptionerOutput
from multimodal.models.dual_encoder import MAX_LOGIT_SCALE, DualEncoder, DualEncoderConfig, DualEncoding

__all__ = [
    "MAX_LOGIT_SCALE",
    "Captioner",
    "CaptionerConfig",
    "CaptionerOutput",
    "DualEncoder",
    "DualEncoderConfig",
    "DualEncoding",
    "Network",
    "NetworkConfig",
    "build",
    "network_config",
    "network_table",
]

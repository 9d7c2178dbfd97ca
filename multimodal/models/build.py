"""From the table that describes a network to the network."""

from typing import Any

from multimodal.config import from_dict, to_dict
from multimodal.models.blip import (
    Answerer,
    AnswererConfig,
    ImageCaptioner,
    ImageCaptionerConfig,
    Matcher,
    MatcherConfig,
)
from multimodal.models.captioner import Captioner, CaptionerConfig
from multimodal.models.dual_encoder import DualEncoder, DualEncoderConfig

Network = DualEncoder | Captioner | ImageCaptioner | Matcher | Answerer
NetworkConfig = DualEncoderConfig | CaptionerConfig | ImageCaptionerConfig | MatcherConfig | AnswererConfig

# What `training` trains
Trainable = DualEncoder | Captioner
TrainableConfig = DualEncoderConfig | CaptionerConfig

NETWORKS: dict[type, Any] = {
    DualEncoderConfig: DualEncoder,
    CaptionerConfig: Captioner,
    ImageCaptionerConfig: ImageCaptioner,
    MatcherConfig: Matcher,
    AnswererConfig: Answerer,
}


def network_config(table: dict[str, Any]) -> NetworkConfig:
    """The config of a table; what is in it says of which network. Unknown keys are a ValueError."""
    text = table.get("text")
    if "decoder" not in table:
        looks = isinstance(text, dict) and text.get("memory_width") is not None
        kind: Any = MatcherConfig if looks else DualEncoderConfig
    elif "question" in table:
        kind = AnswererConfig
    else:
        kind = ImageCaptionerConfig if text is None else CaptionerConfig
    return from_dict(kind, table, "model")


def network_table(config: NetworkConfig) -> dict[str, Any]:
    """The inverse of `network_config`."""
    return to_dict(config)


def build(config: NetworkConfig) -> Network:
    """The network of a config, with random weights; it keeps the config as `config`."""
    network = NETWORKS[type(config)].from_config(config)
    network.config = config
    return network

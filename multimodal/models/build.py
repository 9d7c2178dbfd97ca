"""From the table that describes a network to the network."""

from typing import Any

from multimodal.config import from_dict, to_dict
from multimodal.models.captioner import Captioner, CaptionerConfig
from multimodal.models.dual_encoder import DualEncoder, DualEncoderConfig

Network = DualEncoder | Captioner
NetworkConfig = DualEncoderConfig | CaptionerConfig


def network_config(table: dict[str, Any]) -> NetworkConfig:
    """The config of a table; one with a `decoder` is a captioner's. Unknown keys are a ValueError."""
    return from_dict(CaptionerConfig if "decoder" in table else DualEncoderConfig, table, "model")


def network_table(config: NetworkConfig) -> dict[str, Any]:
    """The inverse of `network_config`."""
    return to_dict(config)


def build(config: NetworkConfig) -> Network:
    """The network of a config, with random weights."""
    if isinstance(config, CaptionerConfig):
        return Captioner.from_config(config)
    return DualEncoder.from_config(config)

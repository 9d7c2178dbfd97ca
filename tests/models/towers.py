"""Encoders that are one linear layer, of any modality."""

from torch import Tensor, nn

from multimodal.encoders import Encoder
from multimodal.layers import Encoded


class LinearEncoder(Encoder):
    """inputs [B, inputs] -> pooled [B, width]"""

    def __init__(self, modality: str, inputs: int, width: int) -> None:
        super().__init__()
        self.modality, self.width = modality, width
        self.linear = nn.Linear(inputs, width)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Encoded:
        return Encoded(None, self.linear(inputs))


def spread(network: nn.Module, std: float = 0.2) -> nn.Module:
    """Weights so large that different inputs give clearly different outputs."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=std)
    return network.eval()

"""What an encoder is."""

from torch import nn


class Encoder(nn.Module):
    """forward(x, padding_mask=None) -> Encoded(features [B, N, W], pooled [B, W], padding_mask [B, N] | None)"""

    width: int  # W

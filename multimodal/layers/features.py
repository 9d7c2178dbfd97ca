"""What an encoder returns."""

from typing import NamedTuple

from torch import Tensor


class Encoded(NamedTuple):
    """The output of an encoder, before any projection into a shared space.

    B = batch, N = positions, W = width of the encoder
    """

    features: Tensor | None  # [B, N, W]; None if the encoder only has a pooled vector
    pooled: Tensor  # [B, W]
    mask: Tensor | None = None  # [B, N] bool, True = attend; None: attend to every position

    def select(self, rows: Tensor) -> "Encoded":
        """The output for the inputs `rows` [B'] (int64 or bool [B]), in that order."""
        return Encoded(
            None if self.features is None else self.features[rows],
            self.pooled[rows],
            None if self.mask is None else self.mask[rows],
        )

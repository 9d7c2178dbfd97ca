"""Where a token or a patch is: learned, rotary and relative positions.

B = batch, H = heads, L = queries, M = keys, W = width, D = width of a head
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POSITIONS = ("learned", "rotary", "relative")


class Rotary(nn.Module):
    """Rotates pairs of channels by an angle proportional to the position (Su et al. 2021, equation 34).

    x [B, H, L, D] -> [B, H, L, D]. Channel i is paired with channel i + D / 2, as in LLaMA.
    """

    def __init__(self, head_width: int, base: float = 10_000.0) -> None:
        super().__init__()
        if head_width % 2:
            raise ValueError(f"rotary: expected an even width of a head, got {head_width}")
        self.head_width, self.base = head_width, base

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """`start`: the position of the first of the L tokens."""
        half = self.head_width // 2
        frequencies = self.base ** -(torch.arange(half, device=x.device) / half)  # [D / 2]
        positions = torch.arange(start, start + x.shape[2], device=x.device)
        angles = torch.outer(positions, frequencies)  # [L, D / 2], float32
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        a, b = x.chunk(2, -1)  # each [B, H, L, D / 2]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class RelativeBias(nn.Module):
    """A learned bias per head and distance, added to attention scores (Raffel et al. 2020, T5, section 2.1).

    Distances share logarithmically growing buckets; bidirectional attention uses half of them for each direction.
    """

    def __init__(self, heads: int, bidirectional: bool, buckets: int = 32, max_distance: int = 128) -> None:
        super().__init__()
        self.bidirectional, self.buckets, self.max_distance = bidirectional, buckets, max_distance
        self.bias = nn.Embedding(buckets, heads)

    def forward(self, queries: int, keys: int, mask: Tensor | None = None) -> Tensor:
        """The bias [1, H, L, M] of the last `queries` of `keys` positions.

        mask: bool, True = attend; where it is False, the bias is -inf. It broadcasts, so that a mask [B, 1, 1, M]
        gives a bias [B, H, L, M].
        """
        device = self.bias.weight.device
        query = torch.arange(keys - queries, keys, device=device)[:, None]  # [L, 1]
        distance = torch.arange(keys, device=device)[None] - query  # [L, M], negative: the key comes before
        bias = self.bias(self.bucket(distance)).permute(2, 0, 1)[None]  # [L, M, H] -> [1, H, L, M]
        return bias if mask is None else bias.masked_fill(~mask, -torch.inf)

    def bucket(self, distance: Tensor) -> Tensor:
        """The bucket of each distance (key position - query position)."""
        buckets, offset = self.buckets, torch.zeros_like(distance)
        if self.bidirectional:
            buckets //= 2
            offset = buckets * (distance > 0).long()
            distance = distance.abs()
        else:
            distance = (-distance).clamp(min=0)
        exact = buckets // 2  # small distances have a bucket each
        scale = (buckets - exact) / math.log(self.max_distance / exact)
        far = exact + (distance.clamp(min=1).float().div(exact).log() * scale).long()
        return offset + torch.where(distance < exact, distance, far.clamp(max=buckets - 1))


def resize_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Learned positions [P + n * n, W] for a grid of patches (down, across).

    The positions of the P tokens before the patches are kept, the n x n others are interpolated, bicubic with
    antialiasing.
    """
    count = len(positions)
    side = int(count**0.5)  # n: at most one token stands before a square of patches
    if grid == (side, side):
        return positions
    before, square = positions[: count - side * side], positions[count - side * side :]
    square = square.float().unflatten(0, (1, side, side)).permute(0, 3, 1, 2)  # [n * n, W] -> [1, W, n, n]
    square = F.interpolate(square, grid, mode="bicubic", antialias=True)  # [1, W, down, across]
    return torch.cat([before, square[0].flatten(1).T.to(positions.dtype)])  # [P + down * across, W]

"""Cross-entropy of the next token."""

import torch.nn.functional as F
from torch import Tensor

from multimodal.distributed import sum_over_ranks, world_size


def captioning_loss(logits: Tensor, targets: Tensor, mask: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy per real token, averaged over the tokens of all ranks.

    logits: [B, L, V]; targets: [B, L] int64; mask: [B, L] bool, True = a real token; padding is ignored
    -> scalar, nats. Ranks hold different numbers of tokens: each loss is scaled so that the mean over the
    ranks is the mean over all tokens. It is 0 without any real token.
    """
    losses = F.cross_entropy(logits[mask].float(), targets[mask], label_smoothing=label_smoothing, reduction="sum")
    tokens = sum_over_ranks(mask.sum()).clamp(min=1)
    return losses * world_size() / tokens

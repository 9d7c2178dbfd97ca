"""Contrastive losses: the two inputs of a pair belong together, all other pairings of the batch do not.

b = pairs of this rank, B = pairs of all ranks, D = embedding width

Two pairs of one group (several captions of one image, the same sentence twice) are positives of each other, not
false negatives. Each rank scores its own rows against the rows of all ranks; the mean of the
losses over the ranks is the loss of one process with the whole batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from multimodal.distributed import gather, rank


def positives_of(b: int, groups: Tensor | None, device: torch.device) -> Tensor:
    """[b, B] bool: the pairs of the whole batch that are positives of each pair of this rank.

    groups: [b] int64; None makes each pair a group of its own.
    """
    if groups is None:
        groups = torch.arange(b, device=device) + rank() * b  # labels are offset by rank
    return groups[:, None] == gather(groups)[None]


def info_nce(images: Tensor, texts: Tensor, scale: Tensor, groups: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE (Radford et al. 2021, figure 3), the target spread evenly over the positives.

    images, texts: [b, D] unit length; scale: scalar, 1 / temperature; groups: [b] int64 -> scalar, nats
    """
    targets = positives_of(len(images), groups, images.device).float()
    targets = targets / targets.sum(1, keepdim=True)  # [b, B]
    image_logits = scale * images @ gather(texts).T  # [b, D] @ [D, B] -> [b, B]
    text_logits = scale * texts @ gather(images).T
    return (F.cross_entropy(image_logits, targets) + F.cross_entropy(text_logits, targets)) / 2


def sigmoid_loss(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, groups: Tensor | None = None) -> Tensor:
    """Every pairing of the batch as a binary decision (Zhai et al. 2023, SigLIP, algorithm 1).

    images, texts: [b, D] unit length; scale, bias: scalars; groups: [b] int64
    -> scalar, nats: the sum over all pairings, divided by the number of pairs
    """
    signs = 2 * positives_of(len(images), groups, images.device).float() - 1  # [b, B], +1 or -1
    logits = scale * images @ gather(texts).T + bias  # [b, D] @ [D, B] -> [b, B]
    return -F.logsigmoid(signs * logits).sum() / len(images)

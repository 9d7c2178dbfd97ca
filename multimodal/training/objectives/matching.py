"""The matching term: does the text describe the image? With hard negatives from the batch of this rank.

B = rows of this rank, L = tokens
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from multimodal.datasets import Batch
from multimodal.models import Embeds, Matches
from multimodal.training.objectives.term import OBJECTIVES, Shared, Term, TermConfig, TermData, Trained, main_modality


@dataclass(frozen=True, kw_only=True)
class MatchingConfig(TermConfig):
    """Image-text matching with hard negatives (Li et al. 2021, ALBEF, section 3.2; Li et al. 2022, BLIP)."""


class Matching(Term):
    """Each pair of the batch against one wrong text for its image and one wrong image for its text.

    Wrong partners are drawn in proportion to their similarity: the more alike, the harder. Rows of one group are
    never drawn as each other's negatives; a row whose group is the whole batch has none.
    """

    min_rows_per_rank = 2

    def __init__(self, config: MatchingConfig, network: Any, data: TermData) -> None:
        super().__init__(config, network, data)
        if not isinstance(network, Matches) or not isinstance(network, Embeds):
            raise ValueError("objective.matching: expected a model with a matching head, got one without")

    def trains(self, network: Any) -> Trained:
        return network.encoders, network.matching_head

    def forward(self, shared: Shared, batch: Batch) -> Tensor:
        modality, tokens = main_modality(shared.network), batch.inputs["text"]  # [B, L]
        wrong = batch.groups[:, None] != batch.groups[None]  # [B, B]
        with torch.no_grad():
            scale = shared.network.logit_scale.float().exp()
            similarity = scale * shared.embedding(modality) @ shared.embedding("text").T  # [B, B]
        has_wrong = wrong.any(1).nonzero().flatten()  # [B'], symmetric: for images and texts alike
        texts = draw_negatives(similarity[has_wrong], wrong[has_wrong])  # [B']
        images = draw_negatives(similarity.T[has_wrong], wrong.T[has_wrong])  # [B']
        image_rows = torch.cat([torch.arange(len(tokens), device=tokens.device), has_wrong, images])
        text_rows = torch.cat([torch.arange(len(tokens), device=tokens.device), texts, has_wrong])
        logits = shared.network.match_encoded(shared.encoded(modality).select(image_rows), tokens[text_rows])
        labels = (torch.arange(len(logits), device=logits.device) < len(tokens)).long()  # 1: match
        return F.cross_entropy(logits.float(), labels)


def draw_negatives(similarity: Tensor, allowed: Tensor) -> Tensor:
    """One column for each row, drawn in proportion to exp(similarity) among the allowed: [B', B] -> [B'] int64"""
    if not len(similarity):
        return torch.empty(0, dtype=torch.long, device=similarity.device)
    return similarity.masked_fill(~allowed, -torch.inf).softmax(1).multinomial(1)[:, 0]


OBJECTIVES.register("matching", MatchingConfig, Matching)

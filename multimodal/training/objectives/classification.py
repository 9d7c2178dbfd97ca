"""The classification term: a cosine classifier of the labels in the data, dropped after training.

B = rows of this rank, C = labels, D = width of the shared space
"""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from multimodal.datasets import Batch
from multimodal.losses import captioning_loss
from multimodal.models import Embeds
from multimodal.training.objectives.term import OBJECTIVES, Shared, Term, TermConfig, TermData, Trained, main_modality


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig(TermConfig):
    label_smoothing: float = 0.0


class Classification(Term):
    def __init__(self, config: ClassificationConfig, network: Any, data: TermData) -> None:
        super().__init__(config, network, data)
        if not isinstance(network, Embeds):
            raise ValueError("objective.classification: expected a model that embeds, got another")
        if not data.label_names:
            raise ValueError("objective.classification: expected data with labels, got none")
        self.head = nn.Linear(network.embed_dim, len(data.label_names), bias=False)

    def trains(self, network: Any) -> Trained:
        modality = main_modality(network)
        return network.encoders[modality], network.projections[modality], network.logit_scale, self.head

    def forward(self, shared: Shared, batch: Batch) -> Tensor:
        """The rows with a label; -1 is a row without."""
        embeddings = shared.embedding(main_modality(shared.network))  # [B, D]
        directions = F.normalize(self.head.weight.float(), dim=-1)  # [C, D]
        logits = shared.network.logit_scale.float().exp() * embeddings @ directions.T  # [B, C]
        labels = batch.labels
        # The label is treated as the one token of a caption.
        return captioning_loss(logits, labels.clamp(min=0), labels >= 0, self.config.label_smoothing)


OBJECTIVES.register("classification", ClassificationConfig, Classification)

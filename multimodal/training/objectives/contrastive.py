"""Contrastive terms: InfoNCE (CLIP) and the pairwise sigmoid loss (SigLIP), over any two modalities."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from multimodal.datasets import Batch
from multimodal.losses import info_nce, sigmoid_loss
from multimodal.models import Embeds
from multimodal.training.objectives.term import OBJECTIVES, Shared, Term, TermConfig, TermData, Trained, main_modality


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig(TermConfig):
    """InfoNCE (Radford et al. 2021, figure 3)."""


class Contrastive(Term):
    min_rows = 2  # a pair alone has nothing to be told from

    def __init__(self, config: ContrastiveConfig, network: Any, data: TermData) -> None:
        super().__init__(config, network, data)
        if not isinstance(network, Embeds) or len(network.modalities) < 2:
            raise ValueError("objective.contrastive: expected a model that embeds two modalities, got another")

    def trains(self, network: Any) -> Trained:
        return network.encoders, network.projections, network.logit_scale

    def forward(self, shared: Shared, batch: Batch) -> Tensor:
        inputs, texts = shared.embedding(main_modality(shared.network)), shared.embedding("text")  # [B, D]
        return info_nce(inputs, texts, shared.network.logit_scale.float().exp(), batch.groups)


@dataclass(frozen=True, kw_only=True)
class SigmoidConfig(TermConfig):
    """Every pair judged on its own (Zhai et al. 2023, SigLIP, algorithm 1). Requires model.logit_bias."""


class Sigmoid(Contrastive):
    def __init__(self, config: SigmoidConfig, network: Any, data: TermData) -> None:
        super().__init__(config, network, data)  # type: ignore[arg-type]
        if network.logit_bias is None:
            raise ValueError("objective.sigmoid: expected model.logit_bias to be set (SigLIP: -10), got none")

    def trains(self, network: Any) -> Trained:
        return *super().trains(network), network.logit_bias

    def forward(self, shared: Shared, batch: Batch) -> Tensor:
        network = shared.network
        inputs, texts = shared.embedding(main_modality(network)), shared.embedding("text")  # [B, D]
        return sigmoid_loss(inputs, texts, network.logit_scale.float().exp(), network.logit_bias.float(), batch.groups)


OBJECTIVES.register("contrastive", ContrastiveConfig, Contrastive)
OBJECTIVES.register("sigmoid", SigmoidConfig, Sigmoid)

"""The captioning term: the next token of every text, given what the decoder attends to (none: a language model).

b = rows of a group, L = tokens, V = vocabulary
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from multimodal.datasets import Batch
from multimodal.layers import lengths_until, mask_from_lengths
from multimodal.losses import captioning_loss
from multimodal.models import Generates
from multimodal.training.objectives.term import OBJECTIVES, Shared, Term, TermConfig, TermData, Trained


@dataclass(frozen=True, kw_only=True)
class CaptioningConfig(TermConfig):
    label_smoothing: float = 0.0


class Captioning(Term):
    """The decoder learns the rows that have a real caption (`Batch.captioning`)."""

    def __init__(self, config: CaptioningConfig, network: Any, data: TermData) -> None:
        super().__init__(config, network, data)
        if not isinstance(network, Generates):
            raise ValueError("objective.captioning: expected a model with a decoder, got one without")

    def trains(self, network: Any) -> Trained:
        return network.decoder, *(network.encoders[source] for source in network.sources)

    def forward(self, shared: Shared, batch: Batch) -> Tensor:
        captioned = batch.captioning.nonzero().flatten()
        tokens = batch.inputs["text"][captioned]
        logits, targets, masks = [], [], []
        for rows in shared.by_length(tokens):
            lengths = lengths_until(tokens[rows], shared.eos_id)
            longest = int(lengths.max()) if len(rows) else 2
            group = tokens[rows, :longest]
            memory = shared.memory(captioned[rows])
            logits.append(shared.network.decoder(group[:, :-1], memory).logits.flatten(0, 1))  # [b * (L - 1), V]
            targets.append(group[:, 1:].flatten())
            masks.append(mask_from_lengths(lengths - 1, longest - 1).flatten())
        return captioning_loss(torch.cat(logits), torch.cat(targets), torch.cat(masks), self.config.label_smoothing)


OBJECTIVES.register("captioning", CaptioningConfig, Captioning)

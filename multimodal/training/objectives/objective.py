"""The weighted sum of the terms over one network."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.datasets import Batch
from multimodal.training.objectives.term import OBJECTIVES, Shared, TermData


class Objective(nn.Module):
    """The loss of a batch, and its terms by kind.

    Data-parallel wrappers wrap this module: its forward is everything that needs a gradient.
    """

    def __init__(self, network: nn.Module, configs: Sequence[Any], data: TermData) -> None:
        """configs: one for each term, of different kinds"""
        super().__init__()
        kinds = [OBJECTIVES.kind_of(config) for config in configs]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"objective: expected each kind once, got {kinds}")
        self.network, self.eos_id = network, data.eos_id
        self.terms = nn.ModuleDict({OBJECTIVES.kind_of(c): OBJECTIVES.build(c, network, data) for c in configs})
        self.weights: dict[str, float] = {}
        self.use({kind: config.weight for kind, config in zip(kinds, configs, strict=True)})

    def use(self, weights: Mapping[str, float], frozen: Sequence[str] = ()) -> None:
        """Weigh the terms, and freeze what none of them trains, and the modules called `frozen`.

        Raises ValueError for an unknown term or module, and if no term has a weight.
        """
        unknown = sorted(set(weights) - set(self.terms))
        if unknown:
            raise ValueError(f"objective: expected terms of the run, {sorted(self.terms)}, got {unknown}")
        self.weights = {kind: weight for kind, weight in weights.items() if weight}
        if not self.weights:
            raise ValueError("objective: expected a term with a weight other than 0, got none")
        self.requires_grad_(False)
        for kind in self.weights:
            for part in self.terms[kind].trains(self.network):  # type: ignore[operator]
                part.requires_grad_(True)
        modules = dict(self.network.named_modules())
        for name in frozen:
            if name not in modules or not name:
                known = [key for key, _ in self.network.named_children()]
                raise ValueError(f"freeze: expected the name of a module, such as {known}, got {name!r}")
            modules[name].requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The batch as the network reads it -> the terms by kind, and `loss`, their weighted sum."""
        shared = Shared(self.network, batch.inputs, self.eos_id)
        terms = {kind: self.terms[kind](shared, batch) for kind in self.weights}
        total = sum(self.weights[kind] * term for kind, term in terms.items())
        return {"loss": torch.as_tensor(total), **terms}

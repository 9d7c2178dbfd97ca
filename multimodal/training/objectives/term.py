"""The contract of a term of the loss, the registry of its kinds (one file per term), and the weighted sum of terms.

B = rows of this rank, L = tokens, D = width of the shared space
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from multimodal.config import Registry
from multimodal.datasets import Batch
from multimodal.layers import Encoded, Memory, lengths_until

LENGTH_GROUPS = 4  # rows of similar length go through the text modules together
Trained = Iterable[nn.Module | nn.Parameter]  # what gets a gradient from a term


@dataclass(frozen=True, kw_only=True)
class TermConfig:
    """One `[[objective]]` table of a run file."""

    weight: float = 1.0  # in the sum of the terms; a term of weight 0 is not computed


class TermData(NamedTuple):
    """What a term may need to know of the data."""

    eos_id: int  # a text ends with it
    label_names: list[str]


class Shared:
    """The encodings of one batch, each computed once, when a term first asks for it."""

    def __init__(self, network: Any, inputs: dict[str, Tensor], eos_id: int) -> None:
        self.network, self.inputs, self.eos_id = network, inputs, eos_id
        self._encoded: dict[str, Encoded] = {}
        self._embeddings: dict[str, Tensor] = {}

    def encoded(self, modality: str) -> Encoded:
        """What the encoder of the modality returns for the batch."""
        if modality not in self._encoded:
            self._encoded[modality] = self.network.encoders[modality](self.inputs[modality])
        return self._encoded[modality]

    def embedding(self, modality: str) -> Tensor:
        """[B, D] unit length. Equal texts are encoded once, in groups of similar length."""
        if modality not in self._embeddings:
            if modality == "text" and modality not in self._encoded:
                found = self._embed_texts(self.inputs[modality])
            else:
                found = self.network.project(modality, self.encoded(modality).pooled, normalize=True)
            self._embeddings[modality] = found
        return self._embeddings[modality]

    def memory(self, rows: Tensor) -> Memory | None:
        """What the decoder attends to for some rows of the batch (int64)."""
        sources = self.network.sources
        if len(sources) == 1 and hasattr(self.network, "memory_of"):
            return self.network.memory_of(self.encoded(sources[0]).select(rows))
        return self.network.memory({source: self.inputs[source][rows] for source in sources})

    def by_length(self, tokens: Tensor) -> list[Tensor]:
        """Row numbers of `tokens` [B, L] in groups of similar length, shortest first: little padding."""
        return list(lengths_until(tokens, self.eos_id).argsort(stable=True).chunk(LENGTH_GROUPS))

    def _embed_texts(self, tokens: Tensor) -> Tensor:
        """tokens [B, L] -> [B, D], in the order of the rows"""
        different, place = tokens.unique(dim=0, return_inverse=True)  # [T, L], [B]
        groups = self.by_length(different)
        parts = [self.network.encode("text", different[rows], normalize=True) for rows in groups]
        return torch.cat(parts)[torch.cat(groups).argsort()[place]]


class Term(nn.Module):
    """One term of the loss. Parameters of its own are trained with the network and dropped afterwards.

    Built as `Term(config, network, data)`; raises ValueError if the network or the data lack what it needs.
    """

    min_rows, min_rows_per_rank = 1, 1  # of a batch from which the term learns

    def __init__(self, config: Any, network: Any, data: TermData) -> None:
        super().__init__()
        self.config = config

    def trains(self, network: Any) -> Trained:
        """What gets a gradient from this term. What no term trains is frozen."""
        raise NotImplementedError

    def forward(self, shared: Shared, batch: Batch) -> Tensor:
        """The loss of the batch, a scalar in nats."""
        raise NotImplementedError


OBJECTIVES: Registry[Term] = Registry("objective")


def main_modality(network: Any) -> str:
    """What the network embeds beside text."""
    return next((modality for modality in network.modalities if modality != "text"), "text")


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

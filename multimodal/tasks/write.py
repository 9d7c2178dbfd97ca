"""Sentences about a memory: what captions and answers have in common."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from multimodal.generation import Beam, Strategy, generate
from multimodal.layers.features import Encoded
from multimodal.models import Writer
from multimodal.tasks.protocol import TaskModel


class Writing:
    """How a network writes. Raises ValueError for settings that make no sense.

    max_new_tokens, length_penalty: the network's where None, and as many tokens as the decoder can where the
        network has no number of its own.
    """

    def __init__(
        self,
        model: TaskModel,
        network: Writer,
        num_beams: int,
        max_new_tokens: int | None,
        length_penalty: float | None,
    ) -> None:
        config, tokenizer = network.decoder.config, model.tokenizer
        bos_id = tokenizer.bos_id if config.bos_id is None else config.bos_id
        if bos_id is None or tokenizer.eos_id is None:
            raise ValueError(
                f"expected a tokenizer with bos_id and eos_id to write with, got {tokenizer.to_dict()}"
            )
        # The first token is bos.
        longest = min(config.context_length, tokenizer.context_length) - 1
        if max_new_tokens is None:
            usual = network.max_new_tokens
            max_new_tokens = longest if usual is None else min(usual, longest)
        for name, value in (("num_beams", num_beams), ("max_new_tokens", max_new_tokens)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if max_new_tokens > longest:
            raise ValueError(f"max_new_tokens: expected at most {longest}, got {max_new_tokens}")
        length_penalty = network.length_penalty if length_penalty is None else length_penalty
        if not math.isfinite(length_penalty):
            raise ValueError(f"length_penalty: expected a finite number, got {length_penalty}")
        self.network, self.tokenizer = network, tokenizer
        self.bos_id, self.eos_id = bos_id, tokenizer.eos_id
        self.settings: dict[str, Any] = {
            "num_beams": num_beams,
            "max_new_tokens": max_new_tokens,
            "length_penalty": length_penalty,
        }

    def __call__(self, memory: Encoded) -> list[tuple[str, float]]:
        """A sentence for each row of `memory`, and its mean log-probability per token."""
        generated = generate(
            partial(_step, self.network),
            self.network.new_cache(memory),
            torch.full((len(memory.features), 1), self.bos_id, device=memory.features.device),
            eos_id=self.eos_id,
            pad_id=self.tokenizer.pad_id,
            **self.settings,
        )
        texts = [self.tokenizer.decode(tokens) for tokens in generated.tokens.tolist()]
        return list(zip(texts, generated.scores.tolist(), strict=True))


def _step(network: Writer, tokens: Tensor, cache: Any) -> Tensor:
    return network.decode(tokens, cache=cache)


def settings_of(strategy: Strategy) -> tuple[int, int | None, float | None]:
    """Beams, new tokens and length penalty of a strategy."""
    if isinstance(strategy, Beam):
        return strategy.num_beams, strategy.max_new_tokens, strategy.length_penalty
    return 1, strategy.max_new_tokens, None

"""Greedy decoding: the likeliest token, again and again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from multimodal.config import check_at_least
from multimodal.generation.strategy import STRATEGIES, Cache, Generated, Step, empty, log_probabilities


@dataclass(frozen=True)
class Greedy:
    """The likeliest token each time.

    max_new_tokens: the text is cut there; None: the model's default, or as many as fit.
    """

    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None:
            check_at_least(1, max_new_tokens=self.max_new_tokens)

    def __call__(self, step: Step, cache: Cache, prompt: Tensor, eos_id: int, pad_id: int) -> Generated:
        assert self.max_new_tokens is not None
        if not len(prompt):
            return empty(prompt)
        tokens = prompt.new_full((len(prompt), self.max_new_tokens), pad_id)  # [B, T]
        total = torch.zeros(len(prompt), device=prompt.device)
        lengths = torch.zeros_like(total)
        done = torch.zeros_like(total, dtype=torch.bool)
        fed = prompt
        for position in range(self.max_new_tokens):
            best, token = log_probabilities(step, fed, cache).max(-1)  # [B]
            tokens[:, position] = token.masked_fill(done, pad_id)
            total += best.masked_fill(done, 0)
            lengths += ~done
            done |= token == eos_id
            if bool(done.all()):
                break
            fed = token[:, None]  # a finished row goes on and is ignored
        return Generated(tokens, total / lengths)


STRATEGIES.register("greedy", Greedy)

"""Beam search.

B = sequences, K = beams, T = new tokens, V = vocabulary
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodal.config import check_at_least
from multimodal.generation.strategy import STRATEGIES, Cache, Generated, Step, empty, log_probabilities


@dataclass(frozen=True)
class Beam:
    """The best of `num_beams` hypotheses kept at every length (Wu et al. 2016, section 7).

    length_penalty: hypotheses are compared by log-probability / length ** length_penalty: 0 finds the likeliest
        sentence, which is a short one, 1 the likeliest tokens. None: the model's default, or 1.
    max_new_tokens: the text is cut there; None: the model's default, or as many as fit.
    """

    num_beams: int = 3
    length_penalty: float | None = None
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        check_at_least(1, num_beams=self.num_beams)
        if self.max_new_tokens is not None:
            check_at_least(1, max_new_tokens=self.max_new_tokens)
        if self.length_penalty is not None and not math.isfinite(self.length_penalty):
            raise ValueError(f"length_penalty: expected a finite number, got {self.length_penalty}")

    def __call__(self, step: Step, cache: Cache, prompt: Tensor, eos_id: int, pad_id: int) -> Generated:
        """A hypothesis that ends among the best K candidates leaves for the pool of finished ones. A sequence is
        done when its pool is full and no living hypothesis scores better than the worst in it.
        """
        assert self.max_new_tokens is not None
        if not len(prompt):
            return empty(prompt)
        B, K = len(prompt), self.num_beams
        penalty = 1.0 if self.length_penalty is None else self.length_penalty
        first_row = torch.arange(B, device=prompt.device)[:, None]  # [B, 1]
        live = torch.full((B, K), -torch.inf, device=prompt.device)
        live[:, 0] = 0  # all beams begin alike: only one may branch first
        pool = torch.full((B, K), -torch.inf, device=prompt.device)
        live_tokens = prompt.new_full((B, K, self.max_new_tokens), pad_id)
        pool_tokens = live_tokens.clone()
        done = torch.zeros(B, dtype=torch.bool, device=prompt.device)

        scores = log_probabilities(step, prompt, cache)  # [B, V]
        cache.reorder(first_row.expand(B, K).flatten())  # [B, ...] -> [B * K, ...]
        scores = scores[:, None].expand(B, K, -1)
        V = scores.shape[-1]
        for position in range(self.max_new_tokens):
            length = position + 1
            divisor = length**penalty
            # [B, K, V] -> [B, K * V] -> the best 2 K: at most K of them end, so K go on
            candidates, index = (live[..., None] + scores).flatten(1).topk(min(2 * K, K * V))
            beam, token = index // V, index % V  # [B, 2 K]
            grown = live_tokens[first_row, beam]  # [B, 2 K, T]
            grown[..., position] = token
            ends = token == eos_id
            ranked = torch.arange(candidates.shape[1], device=prompt.device) < K

            finished = (candidates / divisor).masked_fill(~(ends & ranked) | done[:, None], -torch.inf)
            pool, kept = torch.cat([pool, finished], 1).topk(K)
            pool_tokens = torch.cat([pool_tokens, grown], 1)[first_row, kept]

            live, kept = candidates.masked_fill(ends, -torch.inf).topk(K)
            live_tokens = grown[first_row, kept]
            done |= pool[:, -1] >= live[:, 0] / divisor
            if bool(done.all()) or length == self.max_new_tokens:
                break
            cache.reorder((first_row * K + beam[first_row, kept]).flatten())
            fed = token[first_row, kept].reshape(B * K, 1)
            scores = log_probabilities(step, fed, cache).unflatten(0, (B, K))

        unfinished = (live / divisor).masked_fill(done[:, None], -torch.inf)  # cut by max_new_tokens
        best_scores, best = torch.cat([pool, unfinished], 1).max(1)  # [B]
        tokens = torch.cat([pool_tokens, live_tokens], 1)[first_row[:, 0], best]  # [B, T]
        ended = (tokens == eos_id).any(1)
        lengths = torch.where(ended, (tokens == eos_id).int().argmax(1) + 1, length)
        return Generated(tokens, best_scores * lengths ** (penalty - 1))


STRATEGIES.register("beam", Beam)

"""Decoding as small functions over logits.

`step(tokens [B, n], cache) -> logits [B, n, V]` is all that is known of a model; `cache` remembers the tokens
fed so far and can `select` rows. B = sequences, K = beams, T = new tokens, V = vocabulary
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor


class Cache(Protocol):
    def select(self, rows: Tensor) -> None: ...


C = TypeVar("C", bound=Cache)
Step = Callable[[Tensor, C], Tensor]


class Generated(NamedTuple):
    tokens: Tensor  # [B, T] int64, without the prompt; pad_id after eos_id
    scores: Tensor  # [B], mean log-probability per token, eos included, nats


def generate(
    step: Step[C],
    cache: C,
    prompt: Tensor,
    *,
    eos_id: int,
    pad_id: int,
    max_new_tokens: int,
    num_beams: int = 1,
    length_penalty: float = 1.0,
) -> Generated:
    """Continue `prompt` [B, P] until `eos_id` or `max_new_tokens`: greedily, or by beam search.

    Beams are compared by log-probability / length ** length_penalty: 0 looks for the likeliest sentence,
    which is a short one, 1 for the likeliest tokens. `cache` has seen nothing yet. Raises ValueError for a
    number below 1.
    """
    for name, value in (("max_new_tokens", max_new_tokens), ("num_beams", num_beams)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if len(prompt) == 0:
        return Generated(prompt[:, :0], torch.zeros(0, device=prompt.device))
    if num_beams == 1:
        return greedy(step, cache, prompt, eos_id, pad_id, max_new_tokens)
    return beam_search(step, cache, prompt, eos_id, pad_id, max_new_tokens, num_beams, length_penalty)


def greedy(
    step: Step[C], cache: C, prompt: Tensor, eos_id: int, pad_id: int, max_new_tokens: int
) -> Generated:
    """The likeliest token, again and again."""
    tokens = prompt.new_full((len(prompt), max_new_tokens), pad_id)  # [B, T]
    total = torch.zeros(len(prompt), device=prompt.device)
    lengths = torch.zeros_like(total)
    done = torch.zeros_like(total, dtype=torch.bool)
    fed = prompt
    for position in range(max_new_tokens):
        log_probabilities = step(fed, cache)[:, -1].float().log_softmax(-1)  # [B, V]
        best, token = log_probabilities.max(-1)  # [B]
        tokens[:, position] = token.masked_fill(done, pad_id)
        total += best.masked_fill(done, 0)
        lengths += ~done
        done |= token == eos_id
        if bool(done.all()):
            break
        fed = token[:, None]  # a finished row goes on unread
    return Generated(tokens, total / lengths)


def beam_search(
    step: Step[C],
    cache: C,
    prompt: Tensor,
    eos_id: int,
    pad_id: int,
    max_new_tokens: int,
    num_beams: int,
    length_penalty: float,
) -> Generated:
    """The best of `num_beams` hypotheses kept at every length (Wu et al. 2016, section 7).

    A hypothesis that ends among the best K candidates leaves for the pool; a sequence is done when its pool
    is full and no living hypothesis scores better than the worst there.
    """
    B, K = len(prompt), num_beams
    first_row = torch.arange(B, device=prompt.device)[:, None]  # [B, 1]
    live = torch.full((B, K), -torch.inf, device=prompt.device)
    live[:, 0] = 0  # all beams begin alike: only one may branch first
    pool = torch.full((B, K), -torch.inf, device=prompt.device)
    live_tokens = prompt.new_full((B, K, max_new_tokens), pad_id)
    pool_tokens = live_tokens.clone()
    done = torch.zeros(B, dtype=torch.bool, device=prompt.device)

    log_probabilities = step(prompt, cache)[:, -1].float().log_softmax(-1)  # [B, V]
    cache.select(first_row.expand(B, K).flatten())  # [B, ...] -> [B * K, ...]
    log_probabilities = log_probabilities[:, None].expand(B, K, -1)
    V = log_probabilities.shape[-1]
    for position in range(max_new_tokens):
        length = position + 1
        divisor = length**length_penalty
        # [B, K, V] -> [B, K * V] -> the best 2 K: at most K of them end, so K go on
        candidates, index = (live[..., None] + log_probabilities).flatten(1).topk(min(2 * K, K * V))
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
        if bool(done.all()) or length == max_new_tokens:
            break
        cache.select((first_row * K + beam[first_row, kept]).flatten())
        fed = token[first_row, kept].reshape(B * K, 1)
        log_probabilities = step(fed, cache)[:, -1].float().log_softmax(-1).unflatten(0, (B, K))

    unfinished = (live / divisor).masked_fill(done[:, None], -torch.inf)  # cut by max_new_tokens
    scores, best = torch.cat([pool, unfinished], 1).max(1)  # [B]
    tokens = torch.cat([pool_tokens, live_tokens], 1)[first_row[:, 0], best]  # [B, T]
    ended = (tokens == eos_id).any(1)
    lengths = torch.where(ended, (tokens == eos_id).int().argmax(1) + 1, length)
    return Generated(tokens, scores * lengths ** (length_penalty - 1))

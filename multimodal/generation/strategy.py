"""What a decoding strategy is, and the registry of strategies.

A strategy is a frozen dataclass: the only place where a setting of generation is named. Everything above passes
the value through untouched. All that a strategy knows of a model is
`step(tokens [B, n], cache) -> (logits [B, n, V], hidden [B, n, W])`.

B = sequences, P = tokens of the prompt, T = new tokens, V = vocabulary, W = width
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from multimodal.config import Registry


class Cache(Protocol):
    """Remembers the tokens fed so far; `layers.KVCache` is one."""

    def reorder(self, rows: Tensor) -> None: ...
    def truncate(self, length: int) -> None: ...


Step = Callable[[Tensor, Any], tuple[Tensor, Tensor]]


class Generated(NamedTuple):
    tokens: Tensor  # [B, T] int64, without the prompt; pad_id after eos_id
    scores: Tensor  # [B], mean log-probability per token, eos included, nats


class Strategy(Protocol):
    """A frozen dataclass that continues prompts. A setting that is None takes the default of the model."""

    @property
    def max_new_tokens(self) -> int | None: ...

    def __call__(self, step: Step, cache: Cache, prompt: Tensor, eos_id: int, pad_id: int) -> Generated:
        """Continue `prompt` [B, P] until `eos_id` or `max_new_tokens`; `cache` is empty."""


STRATEGIES: Registry[Strategy] = Registry("strategy")


def with_defaults(strategy: Strategy, defaults: Mapping[str, Any]) -> Strategy:
    """`strategy` with the settings that it leaves open (None) taken from `defaults`."""
    open_ = [field.name for field in fields(strategy) if getattr(strategy, field.name) is None]  # type: ignore[arg-type]
    return replace(strategy, **{name: defaults[name] for name in open_ if name in defaults})  # type: ignore[type-var]


def parse_strategy(text: str) -> Strategy:
    """The strategy that `KIND` or `KIND,NAME=VALUE,...` describes, such as "beam,num_beams=3"."""
    kind, *settings = (part.strip() for part in text.split(","))
    table: dict[str, Any] = {"kind": kind}
    for setting in settings:
        name, equals, value = (part.strip() for part in setting.partition("="))
        if not equals or name in table:
            raise ValueError(f"strategy: expected KIND,NAME=VALUE,... with each name once, got {text!r}")
        table[name] = _literal(value)
    strategy: Strategy = STRATEGIES.from_dict(table, "strategy")
    return strategy


def _literal(text: str) -> Any:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text, text)


def describe(strategy: Strategy) -> str:
    """The inverse of `parse_strategy`: the kind and the settings that differ from their defaults."""
    parts = [STRATEGIES.kind_of(strategy)]
    for field in fields(strategy):  # type: ignore[arg-type]
        value = getattr(strategy, field.name)
        if value != field.default:
            parts.append(f"{field.name}={str(value).lower() if isinstance(value, bool) else value}")
    return ",".join(parts)


def log_probabilities(step: Step, tokens: Tensor, cache: Cache) -> Tensor:
    """Of the token after the last one: tokens [B, n] -> [B, V], float32"""
    logits, _ = step(tokens, cache)
    return logits[:, -1].float().log_softmax(-1)


def empty(prompt: Tensor) -> Generated:
    """The result for a prompt of no rows."""
    return Generated(prompt[:, :0], torch.zeros(0, device=prompt.device))

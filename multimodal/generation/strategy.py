"""Decoding strategies: how a sentence is chosen from the logits."""

import dataclasses
import tomllib
from dataclasses import dataclass
from typing import Any

from multimodal.config import Registry


@dataclass(frozen=True)
class Greedy:
    """The most likely token at every step."""

    max_new_tokens: int | None = None


@dataclass(frozen=True)
class Beam:
    """Beam search with `num_beams` hypotheses."""

    num_beams: int = 3
    length_penalty: float | None = None
    max_new_tokens: int | None = None


Strategy = Greedy | Beam
STRATEGIES: Registry[Any] = Registry("strategy")
STRATEGIES.register("greedy", Greedy)
STRATEGIES.register("beam", Beam)


def parse_strategy(text: str) -> Any:
    """The strategy of a text such as "greedy" or "beam,num_beams=3". Values are TOML literals."""
    kind, _, settings = text.partition(",")
    try:
        table = tomllib.loads(f"settings = {{ {settings} }}")["settings"]
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"strategy: expected KIND,KEY=VALUE,..., got {text!r}") from error
    return STRATEGIES.from_dict({"kind": kind.strip(), **table})


def describe(strategy: Any) -> str:
    """The inverse of `parse_strategy`; fields with their default value are left out."""
    changed = [
        f"{field.name}={getattr(strategy, field.name)}"
        for field in dataclasses.fields(strategy)
        if getattr(strategy, field.name) != field.default
    ]
    return ",".join([STRATEGIES.kind_of(strategy), *changed])

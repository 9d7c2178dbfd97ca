"""Strategies as values: their defaults, and their form on the command line."""

from dataclasses import dataclass, fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.generation import STRATEGIES, Beam, Generated, Greedy, describe, parse_strategy, with_defaults

COUNTS = st.integers(1, 10**6)
KINDS = {
    "greedy": st.builds(Greedy, st.none() | COUNTS),
    "beam": st.builds(Beam, COUNTS, st.none() | st.floats(allow_nan=False, allow_infinity=False), st.none() | COUNTS),
}
ANY = st.one_of(*KINDS.values())


def test_every_kind_is_tested():
    assert sorted(KINDS) == STRATEGIES.names()


@given(ANY)
def test_description_round_trip(strategy):
    text = describe(strategy)
    assert parse_strategy(text) == strategy
    assert parse_strategy(text.replace(",", " , ").replace("=", " = ")) == strategy
    assert STRATEGIES.from_dict(STRATEGIES.to_dict(strategy)) == strategy


@pytest.mark.parametrize(
    ("text", "strategy"),
    [
        ("greedy", Greedy()),
        ("beam", Beam()),
        ("beam,num_beams=5", Beam(5)),
        ("greedy,max_new_tokens=20", Greedy(20)),
        ("beam,length_penalty=0.5,max_new_tokens=20", Beam(3, 0.5, 20)),
    ],
)
def test_descriptions(text, strategy):
    assert describe(strategy) == text
    assert parse_strategy(text) == strategy


def test_whole_numbers_are_accepted_for_floats():
    assert parse_strategy("beam,length_penalty=2") == Beam(length_penalty=2.0)


@given(
    ANY,
    st.fixed_dictionaries(
        {}, optional={"max_new_tokens": COUNTS, "length_penalty": st.floats(0, 3), "num_beams": COUNTS}
    ),
)
def test_defaults_fill_only_open_settings(strategy, defaults):
    found = with_defaults(strategy, defaults)
    assert type(found) is type(strategy)
    for field in fields(strategy):
        given, value = getattr(strategy, field.name), getattr(found, field.name)
        assert value == (defaults.get(field.name) if given is None else given)


def test_a_default_that_the_strategy_lacks_is_ignored():
    assert with_defaults(Greedy(), {"length_penalty": 0.5, "max_new_tokens": 7}) == Greedy(7)
    with pytest.raises(ValueError, match="max_new_tokens: expected a whole number of at least 1, got 0"):
        with_defaults(Greedy(), {"max_new_tokens": 0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"strategy.kind: expected one of \['beam', 'greedy'\], got ''"),
        ("bean", r"strategy.kind: expected one of \['beam', 'greedy'\], got 'bean'"),
        ("num_beams=3", r"strategy.kind: expected one of .*, got 'num_beams=3'"),
        ("beam,3", "strategy: expected KIND,NAME=VALUE,.*, got 'beam,3'"),
        ("beam,", "strategy: expected KIND,NAME=VALUE,.*, got 'beam,'"),
        ("beam,num_beams=2,num_beams=3", "with each name once, got 'beam,num_beams=2,num_beams=3'"),
        ("beam,kind=greedy", "with each name once, got 'beam,kind=greedy'"),
        ("beam,beams=3", r"strategy: expected keys among .*'num_beams'\], got \['beams'\]"),
        ("greedy,num_beams=3", r"strategy: expected keys among \['max_new_tokens'\], got \['num_beams'\]"),
        ("beam,num_beams=x", "strategy.num_beams: expected int, got 'x'"),
        ("beam,num_beams=2.5", "strategy.num_beams: expected int, got 2.5"),
        ("beam,num_beams=true", "strategy.num_beams: expected int, got True"),
        ("beam,num_beams=0", "num_beams: expected a whole number of at least 1, got 0"),
        ("beam,length_penalty=inf", "length_penalty: expected a finite number, got inf"),
    ],
)
def test_mistakes_in_a_description(text, message):
    with pytest.raises(ValueError, match=message):
        parse_strategy(text)


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3"])
def test_mistakes_in_numbers(value):
    for make in (Greedy, lambda count: Beam(max_new_tokens=count)):
        with pytest.raises(ValueError, match=f"max_new_tokens: expected a whole number of at least 1, got {value!r}"):
            make(value)
    with pytest.raises(ValueError, match=f"num_beams: expected a whole number of at least 1, got {value!r}"):
        Beam(value)
    with pytest.raises(ValueError, match="length_penalty: expected a finite number, got nan"):
        Beam(length_penalty=float("nan"))


def test_a_strategy_from_outside():
    @dataclass(frozen=True)
    class Repeat:
        """The last token of the prompt, again and again."""

        times: int = 2
        loud: bool = False
        max_new_tokens: int | None = None

        def __call__(self, step, cache, prompt, eos_id, pad_id):
            return Generated(prompt[:, -1:].expand(-1, self.times), torch.zeros(len(prompt)))

    STRATEGIES.register("repeat", Repeat)
    try:
        strategy = parse_strategy("repeat,times=3,loud=true")
        assert strategy == Repeat(3, True)
        assert describe(strategy) == "repeat,times=3,loud=true"
        assert describe(replace(strategy, times=2, loud=False)) == "repeat"
        assert with_defaults(strategy, {"max_new_tokens": 5}).max_new_tokens == 5
        assert strategy(None, None, torch.tensor([[7, 8]]), 1, 0).tokens.tolist() == [[8, 8, 8]]
    finally:
        STRATEGIES.unregister("repeat")

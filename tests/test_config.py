from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.config import from_dict, to_dict


@dataclass(frozen=True)
class Inner:
    size: int
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    more: list[Inner] = field(default_factory=list)
    limit: int | None = None
    flag: bool = False
    pair: tuple[float, ...] = (0.0, 1.0)
    free: dict = field(default_factory=dict)


INNER = st.builds(Inner, st.integers(), st.floats(allow_nan=False))
OUTER = st.builds(
    Outer,
    name=st.text(),
    inner=INNER,
    more=st.lists(INNER, max_size=3),
    limit=st.none() | st.integers(),
    flag=st.booleans(),
    pair=st.lists(st.floats(allow_nan=False)).map(tuple),
    free=st.dictionaries(st.text(), st.integers() | st.text()),
)


@dataclass(frozen=True)
class Round:
    radius: float = 1.0
    colour: str = "red"


@dataclass(frozen=True)
class Square:
    side: float = 1.0
    colour: str = "red"


@dataclass(frozen=True)
class Holder:
    shape: Round | Square
    other: Square | None = None


@given(
    config=st.builds(
        Holder,
        st.builds(Round, st.floats(allow_nan=False)) | st.builds(Square, st.floats(allow_nan=False)),
        st.none() | st.builds(Square),
    )
)
def test_one_of_several_is_the_one_whose_keys_they_are(config):
    assert from_dict(Holder, to_dict(config)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"shape": {"side": 1, "radus": 2}},
            r"Holder.shape: expected .*'side'\], got \['radus'\]",
        ),
        ({"shape": {"radius": "x"}}, "Holder.shape.radius: expected float, got 'x'"),
        ({"shape": None}, "Holder.shape: expected a table, got None"),
        ({"shape": {}, "other": {"radius": 1}}, r"Holder.other: expected keys among \['colour', 'side'\]"),
    ],
)
def test_mistakes_in_one_of_several(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict(Holder, values)


@given(config=OUTER)
def test_there_and_back(config):
    assert from_dict(Outer, to_dict(config)) == config


def test_whole_numbers_are_numbers():
    assert from_dict(Inner, {"size": 1, "rate": 2}) == Inner(1, 2.0)
    assert isinstance(from_dict(Inner, {"size": 1, "rate": 2}).rate, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "x"}, r"Outer: expected keys among \['flag', .*\], got \['nmae'\]"),
        ({"inner": {"size": 1, "siez": 2}}, r"Outer.inner: expected keys among .*, got \['siez'\]"),
        ({"inner": {}}, r"Outer.inner: expected \['size'\], got only \[\]"),
        ({"inner": 3}, "Outer.inner: expected a table, got 3"),
        ({"inner": {"size": "3"}}, "Outer.inner.size: expected int, got '3'"),
        ({"inner": {"size": 1.5}}, "Outer.inner.size: expected int, got 1.5"),
        ({"inner": {"size": True}}, "Outer.inner.size: expected int, got True"),
        ({"inner": {"size": 1, "rate": True}}, "Outer.inner.rate: expected float, got True"),
        ({"flag": 1}, "Outer.flag: expected bool, got 1"),
        ({"name": None}, "Outer.name: expected str, got None"),
        ({"limit": "x"}, "Outer.limit: expected int, got 'x'"),
        ({"pair": "ab"}, "Outer.pair: expected a list, got 'ab'"),
        ({"pair": [0.0, "x"]}, r"Outer.pair\[1\]: expected float, got 'x'"),
        ({"more": [{"size": 1}, {"size": None}]}, r"Outer.more\[1\].size: expected int, got None"),
    ],
)
def test_mistakes_are_named_with_their_place(change, message):
    with pytest.raises(ValueError, match=message):
        from_dict(Outer, {"name": "a", "inner": {"size": 1}} | change)

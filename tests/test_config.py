"""Tables to dataclasses and back, and registries of kinds."""

import json
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.config import Registry, check_at_least, fill, from_dict, to_dict


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
    counts: dict[str, int] = field(default_factory=dict)


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
    counts=st.dictionaries(st.text(), st.integers(), max_size=3),
)

SHAPES: Registry = Registry("shape")
Shape = Annotated[Any, SHAPES]


@dataclass(frozen=True)
class Circle:
    radius: float = 1.0
    colour: str = "red"


@dataclass(frozen=True)
class Square:
    side: float = 1.0
    colour: str = "red"


@dataclass(frozen=True)
class Group:
    members: tuple[Shape, ...] = ()


@dataclass(frozen=True)
class Drawing:
    shape: Shape
    other: Shape | None = None
    stack: tuple[Shape, ...] = ()
    row: list[Shape] = field(default_factory=list)
    named: dict[str, Shape] = field(default_factory=dict)
    square: Square = Square()
    colour: str = "white"


SHAPES.register("square", Square)
SHAPES.register("circle", Circle)
SHAPES.register("group", Group)

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.builds(Circle, FLOATS, st.text()) | st.builds(Square, FLOATS, st.text())
ANY_SHAPE = st.recursive(PLAIN, lambda inner: st.builds(Group, st.lists(inner, max_size=2).map(tuple)))
DRAWINGS = st.builds(
    Drawing,
    ANY_SHAPE,
    st.none() | ANY_SHAPE,
    st.lists(ANY_SHAPE, max_size=2).map(tuple),
    st.lists(ANY_SHAPE, max_size=2),
    st.dictionaries(st.text(), ANY_SHAPE, max_size=2),
    st.builds(Square, FLOATS),
    st.text(),
)


@given(config=OUTER)
def test_round_trip(config):
    assert from_dict(Outer, to_dict(config)) == config


@given(config=DRAWINGS)
def test_round_trip_of_registered_kinds(config):
    assert from_dict(Drawing, json.loads(json.dumps(to_dict(config)))) == config


@given(config=ANY_SHAPE)
def test_round_trip_through_the_registry(config):
    table = SHAPES.to_dict(config)
    assert table["kind"] == SHAPES.kind_of(config)
    assert SHAPES.from_dict(json.loads(json.dumps(table))) == config


def test_a_table_says_its_kind_wherever_it_stands():
    config = Drawing(Circle(2.0), None, (Square(),), [Circle()], {"a": Group((Square(3.0),))})
    assert to_dict(config) == {
        "shape": {"kind": "circle", "radius": 2.0, "colour": "red"},
        "stack": [{"kind": "square", "side": 1.0, "colour": "red"}],
        "row": [{"kind": "circle", "radius": 1.0, "colour": "red"}],
        "named": {"a": {"kind": "group", "members": [{"kind": "square", "side": 3.0, "colour": "red"}]}},
        "square": {"side": 1.0, "colour": "red"},  # a field of one class needs no kind
        "colour": "white",
    }


def test_none_is_left_out_at_every_depth():
    """TOML has no word for it."""
    table = to_dict(Outer("a", Inner(1), limit=None, free={"x": None, "y": {"z": None}}))
    assert "limit" not in table
    assert table["free"] == {"y": {}}


KINDS = r"expected one of \['circle', 'group', 'square'\], got"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": {"radius": 1}}, rf"Drawing.shape.kind: {KINDS} None"),
        ({"shape": {}}, rf"Drawing.shape.kind: {KINDS} None"),
        ({"shape": {"kind": "oval"}}, rf"Drawing.shape.kind: {KINDS} 'oval'"),
        ({"shape": {"kind": ["circle"]}}, rf"Drawing.shape.kind: {KINDS} \['circle'\]"),
        ({"shape": None}, "Drawing.shape: expected a table with a kind, got None"),
        ({"shape": "circle"}, "Drawing.shape: expected a table with a kind, got 'circle'"),
        (
            {"shape": {"kind": "circle", "side": 1}},
            r"Drawing.shape: expected keys among \['colour', 'radius'\], got \['side'\]",
        ),
        ({"shape": {"kind": "circle", "radius": "x"}}, "Drawing.shape.radius: expected float, got 'x'"),
        ({"shape": {"kind": "circle"}, "other": {"side": 1}}, rf"Drawing.other.kind: {KINDS} None"),
        (
            {"shape": {"kind": "group", "members": [{"kind": "circle"}, {"kind": "oval"}]}},
            rf"Drawing.shape.members\[1\].kind: {KINDS} 'oval'",
        ),
        ({"shape": {"kind": "circle"}, "named": {"a": {"kind": "oval"}}}, rf"Drawing.named.a.kind: {KINDS} 'oval'"),
        ({"shape": {"kind": "circle"}, "square": {"kind": "square"}}, r"Drawing.square: .*got \['kind'\]"),
    ],
)
def test_mistakes_in_kinds_are_reported_with_their_path(values, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        from_dict(Drawing, values)


def test_a_config_that_is_built_already_is_kept():
    circle = Circle(2.0)
    assert from_dict(Drawing, {"shape": circle, "stack": [circle]}) == Drawing(circle, None, (circle,))


def test_a_registry_registers_and_builds():
    built: Registry = Registry("shape")
    assert built.names() == []
    built.register("square", Square, lambda config, unit="cm": f"{config.side} {unit}")
    built.register("circle", Circle)
    assert built.names() == ["circle", "square"]
    assert built.items() == [("square", Square), ("circle", Circle)]  # in the order of registration
    assert built["circle"] is Circle
    assert built.kind_of(Square()) == "square"
    assert built.build(Square(2.0)) == "2.0 cm"
    assert built.build(Square(2.0), "m") == built.build(Square(2.0), unit="m") == "2.0 m"
    circle = Circle()
    assert built.build(circle) is circle  # without a builder, the config itself is the thing
    assert built.builder(circle) is None
    assert built.builder(Square())(Square(3.0)) == "3.0 cm"


def test_a_name_is_registered_once():
    registry: Registry = Registry("shape")
    registry.register("circle", Circle)
    with pytest.raises(ValueError, match="shape: expected a new kind, got 'circle', which is registered"):
        registry.register("circle", Square)
    assert registry["circle"] is Circle
    registry.unregister("circle")
    registry.unregister("circle")  # does nothing
    assert registry.names() == []
    registry.register("circle", Square)
    assert registry["circle"] is Square


def test_an_unknown_kind_lists_the_names():
    with pytest.raises(ValueError, match=rf"shape: {KINDS} 'oval'"):
        SHAPES["oval"]
    with pytest.raises(ValueError, match=rf"shape.kind: {KINDS} 'oval'"):
        SHAPES.from_dict({"kind": "oval"})
    with pytest.raises(ValueError, match=rf"here.kind: {KINDS} None"):
        SHAPES.from_dict({"radius": 1}, "here")
    for method in (SHAPES.kind_of, SHAPES.build, SHAPES.builder, SHAPES.to_dict):
        with pytest.raises(ValueError, match=r"shape: expected a config of .*'square'\], got Inner, which is not"):
            method(Inner(1))


def test_a_subclass_is_another_kind():
    @dataclass(frozen=True)
    class Oval(Circle):
        height: float = 1.0

    with pytest.raises(ValueError, match="got Oval, which is not registered"):
        SHAPES.kind_of(Oval())
    SHAPES.register("oval", Oval)
    try:
        assert SHAPES.from_dict(SHAPES.to_dict(Oval(2.0, height=3.0))) == Oval(2.0, height=3.0)
        assert SHAPES.kind_of(Circle()) == "circle"
    finally:
        SHAPES.unregister("oval")


def test_fill_sets_fields_at_every_depth():
    config = Drawing(Circle(), None, (Square(), Group((Circle(),))), [Circle(2.0)], {"a": Group((Square(),))})
    blue = {"colour": "blue"}
    expected = Drawing(
        Circle(**blue),
        None,
        (Square(**blue), Group((Circle(**blue),))),
        [Circle(2.0, **blue)],
        {"a": Group((Square(**blue),))},
        Square(**blue),
        "blue",
    )
    assert fill(config, colour="blue") == expected
    assert config.shape.colour == "red"  # the original stays
    assert fill(config) == config
    assert fill(config, height=3) == config  # no field has this name
    assert fill(config, square=Square(5.0)).square == Square(5.0)


def test_integers_are_accepted_for_floats():
    assert from_dict(Inner, {"size": 1, "rate": 2}) == Inner(1, 2.0)
    assert isinstance(from_dict(Inner, {"size": 1, "rate": 2}).rate, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "x"}, r"Outer: expected keys among \['counts', .*\], got \['nmae'\]"),
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
        ({"free": 3}, "Outer.free: expected dict, got 3"),
        ({"counts": [1]}, r"Outer.counts: expected a table, got \[1\]"),
        ({"counts": {"a": "x"}}, "Outer.counts.a: expected int, got 'x'"),
    ],
)
def test_mistakes_are_reported_with_their_path(change, message):
    with pytest.raises(ValueError, match=message):
        from_dict(Outer, {"name": "a", "inner": {"size": 1}} | change)


def test_whole_numbers():
    check_at_least(2, three=3, two=2, of_numpy=np.int64(2))
    for bad in (1, np.int32(1), 2.0, np.float64(2), True, np.True_, "2", None):
        with pytest.raises(ValueError, match="count: expected a whole number of at least 2, got") as error:
            check_at_least(2, fine=2, count=bad)
        assert repr(bad) in str(error.value)

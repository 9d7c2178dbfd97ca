"""Dataclasses from plain tables (TOML, JSON) and back, and registries of the kinds that a table may name.

A table that could describe one of several things says which in its key `kind`. A dataclass field holds such a
table when its type is annotated with the registry: `image: Annotated[EncoderConfig, ENCODERS]`.
"""

import dataclasses
import inspect
import types
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class Registry(Generic[T]):
    """An open family of interchangeable things: encoders, models, training objectives, metrics, ...

    `register(kind, entry, build)` adds one from anywhere, inside the package or outside. `entry` is the config
    dataclass whose instances `build` turns into the thing; a family without configs registers the thing itself.

    >>> shapes = Registry("shape")
    >>> shapes.register("circle", dataclasses.make_dataclass("Circle", [("radius", float)]))
    >>> shapes.from_dict({"kind": "circle", "radius": 2}).radius
    2.0
    """

    def __init__(self, family: str) -> None:
        self.family = family  # for messages
        self._entries: dict[str, tuple[Any, Callable[..., T] | None]] = {}  # kind -> entry and builder

    def register(self, kind: str, entry: Any, build: Callable[..., T] | None = None) -> None:
        """Add `entry` under the name `kind`. Raises ValueError if the name is taken."""
        if kind in self._entries:
            raise ValueError(f"{self.family}: expected a new kind, got {kind!r}, which is registered already")
        self._entries[kind] = entry, build

    def unregister(self, kind: str) -> None:
        """Remove a kind, for tests and for reloading a notebook cell."""
        self._entries.pop(kind, None)

    def names(self) -> list[str]:
        """All registered kinds, sorted."""
        return sorted(self._entries)

    def __getitem__(self, kind: str) -> Any:
        """The entry registered as `kind`. Raises ValueError listing the known names."""
        check_one_of(self.names(), **{self.family: kind})
        return self._entries[kind][0]

    def items(self) -> list[tuple[str, Any]]:
        """Kinds and entries in the order of registration."""
        return [(kind, entry) for kind, (entry, _) in self._entries.items()]

    def kind_of(self, config: Any) -> str:
        """The kind whose config dataclass `config` is an instance of."""
        for kind, entry in self.items():
            if type(config) is entry:
                return kind
        raise ValueError(
            f"{self.family}: expected a config of {self.names()}, got {type(config).__name__}, which is not registered"
        )

    def build(self, config: Any, *arguments: Any, **named: Any) -> T:
        """What the builder registered with the class of `config` makes of it; without a builder, `config`."""
        build = self.builder(config)
        return config if build is None else build(config, *arguments, **named)

    def builder(self, config: Any) -> Callable[..., T] | None:
        """The builder registered with the class of `config`."""
        return self._entries[self.kind_of(config)][1]

    def from_dict(self, table: Any, where: str = "") -> Any:
        """The config that `table` describes. Its key `kind` names the class."""
        where = where or self.family
        if not isinstance(table, dict):
            raise ValueError(f"{where}: expected a table with a kind, got {table!r}")
        check_one_of(self.names(), **{f"{where}.kind": table.get("kind")})
        return from_dict(self[table["kind"]], {k: v for k, v in table.items() if k != "kind"}, where)

    def to_dict(self, config: Any) -> dict[str, Any]:
        """The inverse of `from_dict`."""
        return {"kind": self.kind_of(config), **to_dict(config)}


def from_dict(cls: type[T], values: dict[str, Any], where: str = "") -> T:
    """An instance of the dataclass `cls` from `values`; nested dataclasses from nested tables.

    `where` is the path of the table, for messages. Raises ValueError for an unknown key, a missing one, or a
    value of the wrong type, naming the key, what was expected and what was found.
    """
    assert dataclasses.is_dataclass(cls)
    name = where or cls.__name__
    if not isinstance(values, dict):
        raise ValueError(f"{name}: expected a table, got {values!r}")
    fields = inspect.signature(cls).parameters
    if unknown := sorted(set(values) - set(fields)):
        raise ValueError(f"{name}: expected keys among {sorted(fields)}, got {unknown}")
    if missing := [key for key, field in fields.items() if field.default is field.empty and key not in values]:
        raise ValueError(f"{name}: expected {missing}, got only {sorted(values)}")
    hints = get_type_hints(cls, include_extras=True)
    return cls(**{key: _convert(hints[key], value, f"{name}.{key}") for key, value in values.items()})


def to_dict(config: Any) -> dict[str, Any]:
    """The plain table of a dataclass. Tuples become lists and None is left out, as TOML and JSON require."""
    hints = get_type_hints(type(config), include_extras=True)
    values = {name: getattr(config, name) for name in inspect.signature(type(config)).parameters}
    return {name: _plain(hints[name], value) for name, value in values.items() if value is not None}


def check_one_of(known: Sequence[str], /, **values: Any) -> None:
    """Raise ValueError for a value that is not in `known`, under its own name."""
    for name, value in values.items():
        if value not in known:
            raise ValueError(f"{name}: expected one of {known}, got {value!r}")


def check_at_least(low: int, **values: Any) -> None:
    """Raise ValueError for a value that is not a whole number (NumPy's included) of at least `low`, under its name."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
            raise ValueError(f"{name}: expected a whole number of at least {low}, got {value!r}")


def fill(config: T, **values: Any) -> T:
    """A copy of `config` in which it and all dataclasses inside it have `values` in the fields of these names."""

    def inside(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return fill(value, **values)
        if isinstance(value, dict):
            return {key: inside(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(inside(item) for item in value)
        return value

    names = inspect.signature(type(config)).parameters
    changes = {name: values[name] if name in values else inside(getattr(config, name)) for name in names}
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def _optional(kind: Any) -> Any:
    """`X` of a type `X | None`; any other type as it is."""
    if get_origin(kind) in (Union, types.UnionType):
        [kind] = [each for each in get_args(kind) if each is not type(None)]
    return kind


def _convert(kind: Any, value: Any, where: str) -> Any:
    """`value` of a table as the type `kind` of a field."""
    if value is None and type(None) in get_args(kind):
        return None
    kind = _optional(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(value):
        return value  # built already
    if origin is Annotated:
        return arguments[1].from_dict(value, where)
    if dataclasses.is_dataclass(kind):
        return from_dict(kind, value, where)  # type: ignore[arg-type]
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where}: expected a list, got {value!r}")
        return origin(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected a table, got {value!r}")
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where}: expected {kind.__name__}, got {value!r}")
    return value


def _plain(kind: Any, value: Any) -> Any:
    """The inverse of `_convert`."""
    kind = _optional(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if value is None:
        return None
    if origin is Annotated:
        return arguments[1].to_dict(value)
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, dict):
        inner = arguments[1] if origin is dict else Any
        return {key: _plain(inner, item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(arguments[0] if arguments else Any, item) for item in value]
    return value

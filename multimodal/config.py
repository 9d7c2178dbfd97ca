"""Dataclasses from plain tables (TOML, JSON), with unknown keys and wrong types refused."""

import dataclasses
import types
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def from_dict(cls: type[T], values: dict[str, Any], where: str = "") -> T:
    """An instance of the dataclass `cls` from `values`; nested dataclasses from nested tables.

    Raises ValueError naming the key, what was expected and what came: an unknown key, a missing one, or a
    value of the wrong type. `where` is the path of the table, for the message.
    """
    assert dataclasses.is_dataclass(cls)
    name = where or cls.__name__
    if not isinstance(values, dict):
        raise ValueError(f"{name}: expected a table, got {values!r}")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(f"{name}: expected keys among {sorted(fields)}, got {unknown}")
    missing = [
        key
        for key, field in fields.items()
        if key not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{name}: expected {missing}, got only {sorted(values)}")
    hints = get_type_hints(cls)
    return cls(**{key: _convert(hints[key], value, f"{name}.{key}") for key, value in values.items()})


def to_dict(config: Any) -> dict[str, Any]:
    """The plain tables of a dataclass; tuples become lists and None is left out, as TOML and JSON want."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if item is not None}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return plain(dataclasses.asdict(config))


def _chosen(kinds: tuple[Any, ...], value: Any) -> Any:
    """Of the kinds of a union, None apart: the only one, or the dataclass that has most of the keys."""
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    if len(kinds) == 1 or not isinstance(value, dict):
        return kinds[0]
    return max(kinds, key=lambda kind: len({field.name for field in dataclasses.fields(kind)} & set(value)))


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(value):
        return value  # built already
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(_chosen(arguments, value), value, where)
    if dataclasses.is_dataclass(kind):
        return from_dict(kind, value, where)  # type: ignore[arg-type]
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where}: expected a list, got {value!r}")
        return origin(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict or kind is dict or kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{where}: expected {kind.__name__}, got {value!r}")
    return value

"""The models that `load` knows by name: in the package, in open_clip, and the best known on hubs."""

import html
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

SHIPPED = {"small": Path(__file__).parent / "small"}  # in the package, offline
EMBEDS = ("classify", "search")
# families: (pattern, family) of architectures of open_clip; the first pattern that matches the name counts
# first: the families that are listed first
# hub: name, family, abilities and number of parameters of models in the format of transformers
# open_clip_parameters: of architectures. Tied parameters count once.
TABLE = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))


class ModelEntry(NamedTuple):
    """A model that `load` knows by name; with tags, `name:tag` is the name of a checkpoint."""

    name: str
    family: str
    can: tuple[str, ...]  # some of "classify", "search", "caption", "match", "answer"
    num_parameters: int | None  # None: only a download tells
    tags: tuple[str, ...]  # the data with which, or the group by which, it was trained
    where: str  # "in the package", "open_clip" or "hub"

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of a table."""
        count = "" if self.num_parameters is None else f"{self.num_parameters / 1e6:.0f} M"
        return self.name, self.family, ", ".join(self.can), count, ", ".join(self.tags), self.where


class Models(list[ModelEntry]):
    """A list of models that renders itself."""

    HEAD = ("name", "family", "can", "parameters", "tags", "where")

    @property
    def groups(self) -> dict[tuple[str, str], list[ModelEntry]]:
        """Models of one family with the same abilities, by family (or "in the package") and abilities."""
        groups: dict[tuple[str, str], list[ModelEntry]] = {}
        for each in self:
            family = each.where if each.name in SHIPPED else each.family
            groups.setdefault((family, ", ".join(each.can)), []).append(each)
        return groups

    def __str__(self) -> str:
        return "\n".join("  ".join(filter(None, each.cells)) for each in self)

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        return {"models": [each._asdict() | {"can": list(each.can), "tags": list(each.tags)} for each in self]}

    def _repr_html_(self) -> str:
        def row(kind: str, cells: Iterable[str]) -> str:
            inner = "".join(f"<{kind} style='text-align:left'>{html.escape(cell)}</{kind}>" for cell in cells)
            return f"<tr>{inner}</tr>"

        return f"<table>{row('th', self.HEAD)}{''.join(row('td', each.cells) for each in self)}</table>"


def models(can: str | None = None, family: str | None = None) -> Models:
    """The models that can be loaded by name, with their abilities; `load` also takes folders and files.

    can: only models that can "classify", "search", "caption", "match" or "answer". family: only models whose family
    or name contains this, in any case; other models with the tags that contain it. Raises ValueError for an unknown
    ability.

    >>> models(can="caption")  # doctest: +SKIP
    """
    known = sorted({ability for each in everything() for ability in each.can})
    if can is not None and can not in known:
        raise ValueError(f"can: expected one of {known}, got {can!r}")
    found = Models()
    for each in everything():
        if can is not None and can not in each.can:
            continue
        if family is None or family.casefold() in f"{each.family} {each.name}".casefold():
            found.append(each)
        elif tags := tuple(tag for tag in each.tags if family.casefold() in tag.casefold()):
            found.append(each._replace(tags=tags))
    return found


@cache
def everything() -> tuple[ModelEntry, ...]:
    """The model in the package first, then family by family."""
    hub = (ModelEntry(name, family, tuple(can), count, (), "hub") for name, family, can, count in TABLE["hub"])
    rank = {family: place for place, family in enumerate(TABLE["first"])}
    others = sorted(
        (*_open_clip(), *hub),
        key=lambda each: (rank.get(each.family, len(rank)), each.family, each.where == "open_clip"),
    )
    return (*_shipped(), *others)


def _shipped() -> Iterable[ModelEntry]:
    for name, folder in SHIPPED.items():
        table = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        can = (*EMBEDS, "caption") if "decoder" in table["model"] else EMBEDS
        yield ModelEntry(name, "CoCa", can, table["card"]["training"]["parameters"], (), "in the package")


def _open_clip() -> Iterable[ModelEntry]:
    from open_clip import get_model_config, get_pretrained_cfg, list_models, list_pretrained_tags_by_model

    counts = TABLE["open_clip_parameters"]
    for name in list_models():
        family = next(family for pattern, family in TABLE["families"] if re.search(pattern, name))
        can = (*EMBEDS, "caption") if family == "CoCa" else EMBEDS
        quick = get_model_config(name).get("quick_gelu", False)
        tags = tuple(  # tags of the other activation belong to the name with or without -quickgelu
            tag
            for tag in list_pretrained_tags_by_model(name)
            if get_pretrained_cfg(name, tag).get("quick_gelu", quick) == quick
        )
        if tags:  # without weights, an architecture cannot be loaded by its name alone
            yield ModelEntry(name, family, can, counts.get(name), tags, "open_clip")

"""The models that `load` knows by name: in the package, in open_clip, and the best known on hubs."""

import html
import json
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

SHIPPED = {"small": Path(__file__).parent / "small"}  # in the package, offline
PARAMETERS = Path(__file__).with_name("parameters.json")  # of the architectures of open_clip

EMBEDS = ("classify", "search")
# The family of an architecture of open_clip, by the first pattern that matches its name
FAMILIES = (
    ("coca", "CoCa"),
    ("SigLIP2", "SigLIP 2"),
    ("SigLIP", "SigLIP"),
    ("EVA", "EVA-CLIP"),
    ("convnext", "ConvNeXt"),
    ("MobileCLIP", "MobileCLIP"),
    ("ViTamin", "ViTamin"),
    ("PE-Core", "Perception Encoder"),
    ("CLIPA", "CLIPA"),
    ("nllb|xlm|mt5|worldwide", "multilingual CLIP"),
    ("^RN", "CLIP, ResNet"),
    ("", "CLIP"),
)
FIRST = ("CLIP", "SigLIP", "SigLIP 2", "CoCa", "BLIP")  # families that are listed first
# Name, family, abilities and number of parameters (tied ones count once); all in the format of transformers
HUB: tuple[tuple[str, str, tuple[str, ...], int], ...] = (
    ("openai/clip-vit-base-patch32", "CLIP", EMBEDS, 151_277_313),
    ("openai/clip-vit-base-patch16", "CLIP", EMBEDS, 149_620_737),
    ("openai/clip-vit-large-patch14", "CLIP", EMBEDS, 427_616_513),
    ("google/siglip-base-patch16-224", "SigLIP", EMBEDS, 203_155_970),
    ("google/siglip-so400m-patch14-384", "SigLIP", EMBEDS, 877_960_498),
    ("Salesforce/blip-image-captioning-base", "BLIP", ("caption",), 223_971_644),
    ("Salesforce/blip-image-captioning-large", "BLIP", ("caption",), 446_290_492),
    ("Salesforce/blip-itm-base-coco", "BLIP", (*EMBEDS, "match"), 223_744_259),
    ("Salesforce/blip-itm-large-coco", "BLIP", (*EMBEDS, "match"), 446_128_643),
    ("Salesforce/blip-vqa-base", "BLIP", ("answer",), 361_230_140),
)


class ModelEntry(NamedTuple):
    """A model that `load` knows by name; with tags, `name:tag` is the name of a checkpoint."""

    name: str
    family: str
    can: tuple[str, ...]  # some of "classify", "search", "caption", "match", "answer"
    num_parameters: int | None  # None: only a download tells
    tags: tuple[str, ...]  # the data with which, or the group by which, it was trained
    where: str  # "in the package", "open_clip" or "hub"

    def to_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "can": list(self.can), "tags": list(self.tags)}

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
        return {"models": [each.to_dict() for each in self]}

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
    others = [*_open_clip(), *(ModelEntry(*entry, (), "hub") for entry in HUB)]
    rank = {family: place for place, family in enumerate(FIRST)}
    others.sort(key=lambda each: (rank.get(each.family, len(FIRST)), each.family, each.where == "open_clip"))
    return (*_shipped(), *others)


def parameter_counts() -> dict[str, int]:
    """The number of parameters of each architecture of open_clip; tied ones count once."""
    return json.loads(PARAMETERS.read_text(encoding="utf-8"))


def _shipped() -> Iterable[ModelEntry]:
    for name, folder in SHIPPED.items():
        table = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        can = (*EMBEDS, "caption") if "decoder" in table["model"] else EMBEDS
        yield ModelEntry(name, "CoCa", can, table["card"]["training"]["parameters"], (), "in the package")


def _open_clip() -> Iterable[ModelEntry]:
    from open_clip import get_model_config, get_pretrained_cfg, list_models, list_pretrained_tags_by_model

    counts = parameter_counts()
    for name in list_models():
        family = next(family for pattern, family in FAMILIES if re.search(pattern, name))
        can = (*EMBEDS, "caption") if family == "CoCa" else EMBEDS
        quick = get_model_config(name).get("quick_gelu", False)
        tags = tuple(  # tags of the other activation belong to the name with or without -quickgelu
            tag
            for tag in list_pretrained_tags_by_model(name)
            if get_pretrained_cfg(name, tag).get("quick_gelu", quick) == quick
        )
        if tags:  # without weights, an architecture cannot be loaded by its name alone
            yield ModelEntry(name, family, can, counts.get(name), tags, "open_clip")

"""The model card as Markdown."""

from typing import Any

from multimodal.metrics import read_measures

TITLES = {"figures": "Figures on the validation sets"}  # of keys whose title is not the key itself
HIDDEN = ("golden",)  # for `verify`, not for readers


def card_text(name: str, card: dict[str, Any]) -> str:
    """Flat tables and measures as tables, lists as lists, `charts` as images next to the card.

    Nested tables are only mentioned: they stay in config.json.
    """
    lines = [f"# {name}", ""]
    nested = []
    for key, value in card.items():
        if key in HIDDEN:
            continue
        title = [f"## {TITLES.get(key, key.replace('_', ' ').capitalize())}", ""]
        if isinstance(value, dict) and any(isinstance(v, dict | list | tuple) for v in value.values()):
            nested.append(f"`card.{key}`")
        elif key == "charts":
            for what, file in value.items():
                lines += [f"## {what}", "", f"![{what}]({file})", ""]
        elif key == "figures" and isinstance(value, list):
            rows = [f"| {' | '.join(measure.cells())} |" for measure in read_measures(value)]
            lines += [*title, "| data set | measure | value | n |", "|---|---|---|---|", *rows, ""]
        elif isinstance(value, dict):
            lines += [*title, "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in value.items()), ""]
        elif isinstance(value, list):
            lines += [*title, *(f"- {item}" for item in value), ""]
        else:
            lines += [*title, str(value), ""]
    return "\n".join([*lines, f"More in `config.json`: {', '.join(nested)}.", ""] if nested else lines)

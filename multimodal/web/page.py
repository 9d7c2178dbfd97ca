"""The demo page: one HTML file with its images inside and no script."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multimodal.files import printable
from multimodal.results import Classification, Hit, Item, Rejected, to_html

STYLE, TEMPLATE = Path(__file__).with_name("page.css"), Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Photo:
    """One photograph with the model's answers."""

    classification: Classification
    caption: str | None  # None if the model writes no captions

    def __str__(self) -> str:
        return str(self.classification) + ("" if self.caption is None else printable(f": {self.caption}"))


@dataclass(frozen=True)
class Search:
    """A text and the photographs nearest to it, best first."""

    query: str
    hits: Sequence[Hit]

    def __str__(self) -> str:
        return printable(f"“{self.query}”: {', '.join(f'{hit.item.name} {hit.score:.3f}' for hit in self.hits)}")


@dataclass(frozen=True)
class Demo:
    """The model's answers on some photographs."""

    model: str
    facts: dict[str, str]  # short facts about the model: its size, its figures
    notes: Sequence[str]  # sentences about the model
    labels: Sequence[str]
    photos: Sequence[Photo]
    searches: Sequence[Search]
    footer: Sequence[str]
    rejected: Sequence[Rejected] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "photos": [photo.classification.to_dict() | {"caption": photo.caption} for photo in self.photos],
            "searches": [{"query": s.query, "hits": [hit.to_dict() for hit in s.hits]} for s in self.searches],
            "rejected": [item.to_dict() for item in self.rejected],
        }


def render_page(demo: Demo) -> str:
    """`demo` as an HTML page."""
    captions = any(photo.caption is not None for photo in demo.photos)
    facts = (f"<div><dt>{to_html(key)}</dt><dd>{to_html(value)}</dd></div>" for key, value in demo.facts.items())
    return TEMPLATE.read_text(encoding="utf-8").format(
        style=STYLE.read_text(encoding="utf-8"),
        model=to_html(demo.model),
        tasks="classifies, searches and captions" if captions else "classifies and searches",
        count=f"{len(demo.photos)} photograph{'s' * (len(demo.photos) > 1)}",
        facts="".join(facts),
        notes="".join(f'<p class="note">{to_html(note)}</p>' for note in demo.notes),
        searches="".join(map(_search_card, demo.searches)),
        title="Captions and classes" if captions else "Classes",
        answers="The sentence is the model's caption. The" if captions else "The",
        labels=f"{len(demo.labels)} labels: {to_html(', '.join(demo.labels))}",
        photos="".join(map(_photo_card, demo.photos)),
        footer="".join(f"<p>{to_html(line)}</p>" for line in demo.footer),
    )


def _search_card(search: Search) -> str:
    hits = "".join(
        f"<figure>{_short(hit.item).thumbnail(220)}<figcaption>{hit.score:.3f}</figcaption></figure>"
        for hit in search.hits
    )
    return f'<section class="card search"><h3>“{to_html(search.query)}”</h3><div class="hits">{hits}</div></section>'


def _photo_card(photo: Photo) -> str:
    caption = "" if photo.caption is None else f'<p class="caption">{to_html(photo.caption)}</p>'
    rows = "".join(
        f'<span>{to_html(label)}</span><b>{score:.0%}</b><i><u style="width:{max(100 * score, 1):.1f}%"></u></i>'
        for label, score in photo.classification.scores.items()
    )
    item = _short(photo.classification.item)
    return (
        f'<article class="card photo">{item.thumbnail(540)}<div>{caption}<div class="scores">{rows}</div>'
        f'<p class="name">{to_html(item.name)}</p></div></article>'
    )


def _short(item: Item) -> Item:
    """`item` by its file name alone: the page may be shared, and its folders are private."""
    return replace(item, name=item.name.replace("\\", "/").rpartition("/")[2])

"""Typed results that print, render in a notebook and turn into JSON."""

import base64
import html
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, SupportsIndex, TypeVar, overload

from torch import Tensor

from multimodal.files import printable

if TYPE_CHECKING:
    from PIL import Image


class Embedded(NamedTuple):
    """Embeddings with their inputs: row i belongs to `names[i]`."""

    embeddings: Tensor  # [N, D] float32 on the CPU, unit length
    names: list[str]
    places: list[int]  # the index of each row in the inputs
    rejected: "list[Rejected]"


class _Printed:
    """What prints as one line, in which file names and texts are escaped; the attributes keep them as they are."""

    def _line(self) -> str:
        raise NotImplementedError

    def __str__(self) -> str:
        return printable(self._line())

    def to_dict(self) -> dict[str, Any]:
        return to_plain(vars(self))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Rejected(_Printed):
    """An input that could not be used: its name, and the reason in a few words."""

    name: str
    reason: str

    def _line(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True)
class Item:
    """An input by name, opened on access, so that the results of a large folder stay small."""

    name: str
    open: Callable[[], Any] = field(repr=False, compare=False)

    def thumbnail(self, side: int = 128) -> str:
        """An HTML `<img>` with the JPEG bytes inside, its longer side `side` pixels; the name if it is not an image."""
        try:
            image: Any = self.open()
        except (OSError, ValueError):  # moved or changed since; the result itself is still valid
            image = None
        if not hasattr(image, "thumbnail"):
            return f"<span>{to_html(self.name)}</span>"
        image = image.copy()
        image.thumbnail((side, side))
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=85)
        data = base64.b64encode(buffer.getvalue()).decode()
        return f'<img src="data:image/jpeg;base64,{data}" alt="{to_html(self.name)}">'


class _ItemResult(_Printed):
    """A result about one item: a dataclass with an `item`, which renders as a thumbnail beside `_body()`."""

    item: Item
    score: float

    @property
    def image(self) -> "Image.Image":
        """The RGB image, read again from its source."""
        return self.item.open()

    def to_dict(self) -> dict[str, Any]:
        facts = {"image": self.item.name} | {key: value for key, value in vars(self).items() if key != "item"}
        return to_plain(facts)  # type: ignore[no-any-return]

    def _body(self) -> str:
        """HTML that shows the result without its item."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return (
            '<div style="display:flex;gap:12px;align-items:center;border:1px solid #8884;border-radius:8px;padding:8px;'
            f'max-width:420px"><div style="flex:none;width:128px;text-align:center">{self.item.thumbnail()}</div>'
            f'<div style="flex:1;min-width:0;overflow-wrap:anywhere">{self._body()}{_small(self.item.name)}</div></div>'
        )


@dataclass(frozen=True)
class Classification(_ItemResult):
    """The class of one image.

    `scores` maps each class to its probability, best first, and sums to 1; with `top_k` it holds only the best k, with
    their probabilities among all classes. `label`, `score` and `index`, the position among the class names, are those
    of the best. Where a name occurs twice, `scores` holds the second class as "name #position".
    """

    label: str
    score: float
    scores: Mapping[str, float] = field(repr=False)
    item: Item
    index: int

    def _line(self) -> str:
        rest = ", ".join(f"{name} {score:.1%}" for name, score in list(self.scores.items())[1:3])
        return f"{self.item.name}: {self.label} {self.score:.1%}" + (f" ({rest})" if rest else "")

    def _body(self) -> str:
        return "".join(_bar(name, score) for name, score in list(self.scores.items())[:5])


@dataclass(frozen=True)
class Caption(_ItemResult):
    """A sentence about one image. `score` is its mean log-probability per token (natural log)."""

    text: str
    score: float
    item: Item

    def _line(self) -> str:
        return f"{self.item.name}: {self.text}"

    def _body(self) -> str:
        return _scored_text(self.text, self.score)


@dataclass(frozen=True)
class Hit(_ItemResult):
    """One search hit: its path and its cosine similarity to the query."""

    path: str
    score: float
    item: Item

    def _line(self) -> str:
        return f"{self.score:.3f}  {self.path}"

    def to_dict(self) -> dict[str, Any]:
        return {"path": to_plain(self.path), "score": self.score}

    def _body(self) -> str:
        return f"<div>{self.score:.3f}</div>"


@dataclass(frozen=True)
class Match(_ItemResult):
    """Whether a text describes one image. `score` is the probability that it does."""

    text: str
    score: float
    item: Item

    def _line(self) -> str:
        return f"{self.item.name}: {self.score:.1%} {self.text}"

    def _body(self) -> str:
        return _bar(self.text, self.score)


@dataclass(frozen=True)
class Answer(_ItemResult):
    """The answer to a question about one image. `score` is its mean log-probability per token (natural log)."""

    question: str
    text: str
    score: float
    item: Item

    def _line(self) -> str:
        return f"{self.item.name}: {self.question} {self.text}"

    def _body(self) -> str:
        return _small(self.question) + f"<div>{to_html(self.text)}</div>"


@dataclass(frozen=True)
class Generation(_Printed):
    """Text generated from text. `score` is the mean log-probability per generated token (natural log)."""

    prompt: str
    text: str
    score: float

    def __str__(self) -> str:
        return "\n".join(map(printable, self.text.split("\n")))

    def _repr_html_(self) -> str:
        return _scored_text(self.text, self.score)


Result = TypeVar("Result", bound=_ItemResult | Generation)


class Results(list[Result], Generic[Result]):
    """A list of results that renders in a notebook; `rejected` lists unusable inputs. A slice is one too."""

    def __init__(self, results: Iterable[Result] = (), rejected: Iterable[Rejected] = ()) -> None:
        super().__init__(results)
        self.rejected = list(rejected)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Result: ...
    @overload
    def __getitem__(self, place: slice) -> "Results[Result]": ...
    def __getitem__(self, place: SupportsIndex | slice) -> "Result | Results[Result]":
        return Results(super().__getitem__(place)) if isinstance(place, slice) else super().__getitem__(place)

    def __str__(self) -> str:
        return "\n".join([str(result) for result in self] + [f"rejected {item}" for item in self.rejected])

    def __repr__(self, limit: int = 20) -> str:
        lines = [str(result) for result in self[:limit]]
        lines += [f"and {len(self) - limit} more"] if len(self) > limit else []
        lines += [f"{len(self.rejected)} rejected"] if self.rejected else []
        return "\n".join(lines) or "Results([])"

    def to_dict(self) -> dict[str, Any]:
        rejected = [item.to_dict() for item in self.rejected]
        return {"results": [result.to_dict() for result in self], "rejected": rejected}

    def _repr_html_(self, limit: int = 50) -> str:
        cards = "".join(result._repr_html_() for result in self[:limit])
        more = f"<div>and {len(self) - limit} more</div>" if len(self) > limit else ""
        lost = "".join(_small(f"rejected {item}") for item in self.rejected[:limit])
        if len(self.rejected) > limit:
            lost += _small(f"and {len(self.rejected) - limit} more rejected")
        columns = "repeat(auto-fill,minmax(min(320px,100%),1fr))"
        return f'<div style="display:grid;grid-template-columns:{columns};gap:8px">{cards}</div>{more}{lost}'


def to_plain(value: Any) -> Any:
    """`value` as JSON in UTF-8 can hold it: mappings as dicts, undecodable bytes of names escaped as in `printable`."""
    if isinstance(value, str):  # codes below the blank are escaped by JSON itself
        return value if value.isprintable() else "".join(char if char < " " else printable(char) for char in value)
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, list | tuple) else value


def to_html(text: str) -> str:
    return html.escape(printable(text))


def _small(text: str) -> str:
    return f'<div style="opacity:.6;font-size:80%;overflow-wrap:anywhere">{to_html(text)}</div>'


def _scored_text(text: str, score: float) -> str:
    return f"<div>{to_html(text)}</div>" + _small(f"{score:.2f} log-probability per token")


def _bar(name: str, score: float) -> str:
    return (
        f'<div style="font-size:90%">{to_html(name)} <span style="opacity:.6">{score:.1%}</span></div>'
        '<div style="background:#8883;border-radius:3px;height:6px;margin-bottom:3px">'
        f'<div style="background:#4c78a8;border-radius:3px;height:6px;width:{100 * score:.1f}%"></div></div>'
    )

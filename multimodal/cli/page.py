"""What a demo found, and the page that shows it: one HTML file with everything inside, and no script."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace

from multimodal.results import Classification, Hit, Item

STYLE = """
:root { color-scheme: light dark; --back: #f6f6f3; --card: #fff; --ink: #1c1d21; --soft: #686b73;
  --line: #e4e4df; --track: #ecece7; --bar: #9fb4c9; --best: #2f6fde; --mark: #2f6fde18; }
@media (prefers-color-scheme: dark) { :root { --back: #131417; --card: #1c1e22; --ink: #ececea;
  --soft: #9b9ea6; --line: #2c2f35; --track: #2a2d33; --bar: #55677a; --best: #6ea2ff; --mark: #6ea2ff20; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 48px 20px 64px; }
h1 { font-size: clamp(30px, 5vw, 44px); line-height: 1.1; letter-spacing: -.025em; margin: 0 0 12px; }
h2 { font-size: 22px; letter-spacing: -.01em; margin: 56px 0 2px; }
p { margin: 0; } .lead { font-size: 18px; max-width: 44em; } .soft { color: var(--soft); }
.note { max-width: 48em; margin-bottom: 20px; color: var(--soft); }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); gap: 10px;
  margin: 24px 0 14px; padding: 0; }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 9px 15px; }
.facts dt { color: var(--soft); font-size: 13px; } .facts dd { margin: 0; font-weight: 600; }
.grid { display: grid; gap: 18px; }
.searches { grid-template-columns: repeat(auto-fill, minmax(min(520px, 100%), 1fr)); }
.photos { grid-template-columns: repeat(auto-fill, minmax(min(270px, 100%), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 16px; overflow: hidden; }
.search { padding: 16px 18px 14px; } .search h3 { margin: 0 0 12px; font-size: 17px; font-weight: 600; }
.hits { display: grid; grid-template-columns: repeat(4, 1fr); gap: 10px; margin: 0; }
.hits figure { margin: 0; min-width: 0; } figcaption { font-size: 13px; color: var(--soft); padding-top: 4px;
  font-variant-numeric: tabular-nums; }
.hits img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 9px; display: block; }
.hits figure:first-child img { outline: 3px solid var(--best); outline-offset: -3px; }
.hits figure:first-child figcaption { color: var(--best); font-weight: 600; }
.photo > img { width: 100%; aspect-ratio: 4 / 3; object-fit: cover; object-position: 50% 25%;
  display: block; background: var(--track); }
.photo { display: flex; flex-direction: column; }
.photo > div { flex: 1; display: flex; flex-direction: column; padding: 14px 16px 16px; }
.caption { font-size: 17px; line-height: 1.35; margin-bottom: 12px; overflow-wrap: anywhere; }
.scores { display: grid; grid-template-columns: 1fr auto; gap: 3px 10px; margin-bottom: 14px; font-size: 14px;
  line-height: 1.3; color: var(--soft); }
.scores span { overflow-wrap: anywhere; } .scores b { font-weight: 400; font-variant-numeric: tabular-nums; }
.scores i { grid-column: 1 / -1; height: 6px; border-radius: 3px; background: var(--track); margin-bottom: 4px; }
.scores u { display: block; height: 100%; border-radius: 3px; background: var(--bar); }
.scores .best { color: var(--ink); font-weight: 600; } .scores .best u { background: var(--best); }
.name { font-size: 12px; color: var(--soft); margin-top: auto; overflow-wrap: anywhere; }
code, pre { font: 14px/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 18px;
  margin: 10px 0 0; overflow-x: auto; }
footer { margin-top: 48px; padding-top: 16px; border-top: 1px solid var(--line); color: var(--soft);
  font-size: 14px; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Photo:
    """One photograph with what the model says of it."""

    classification: Classification
    caption: str | None  # None: this model writes none

    @property
    def item(self) -> Item:
        return self.classification.item


@dataclass(frozen=True)
class Search:
    """A text, and the photographs nearest to it, best first."""

    query: str
    hits: Sequence[Hit]


@dataclass(frozen=True)
class Demo:
    """Everything that the page and the terminal show."""

    model: str
    facts: dict[str, str]  # short: what the model is and what it reached
    notes: Sequence[str]  # sentences about it
    labels: Sequence[str]
    photos: Sequence[Photo]
    searches: Sequence[Search]
    footer: Sequence[str]


def page(demo: Demo) -> str:
    """The page as HTML."""
    count = len(demo.photos)
    captions = any(photo.caption is not None for photo in demo.photos)
    does = "classifies, searches and captions" if captions else "classifies and searches"
    lead = (
        f"The model <b>{text(demo.model)}</b> {does} {count} photograph{'s' * (count > 1)} "
        "on this machine, without a network."
    )
    facts = "".join(
        f"<div><dt>{text(key)}</dt><dd>{text(value)}</dd></div>" for key, value in demo.facts.items()
    )
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in demo.notes)
    searches = "".join(search_card(search) for search in demo.searches)
    photos = "".join(photo_card(photo) for photo in demo.photos)
    said = "The sentence is the model's own. The" if captions else "The"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>multimodal demo</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>What is in these pictures?</h1>
<p class="lead">{lead}</p>
<dl class="facts">{facts}</dl>
{notes}
<h2>Search</h2>
<p class="note">Each sentence is compared with every photograph; the nearest come first. The number is the
cosine of the two embeddings.</p>
<div class="grid searches">{searches}</div>
<h2>{"Captions and classes" if captions else "Classes"}</h2>
<p class="note">{said} bars are its choice among {len(demo.labels)} labels: {text(", ".join(demo.labels))}.</p>
<div class="grid photos">{photos}</div>
<h2>Now yours</h2>
<pre>multimodal demo --photos FOLDER
multimodal classify photo.jpg --labels cat,dog,horse
multimodal index FOLDER --out photos.db
multimodal search photos.db "a dog on a beach"</pre>
<footer>{"".join(f"<p>{text(line)}</p>" for line in demo.footer)}</footer>
</main>
</body>
</html>
"""


def search_card(search: Search) -> str:
    hits = "".join(
        f"<figure>{short(hit.item).thumbnail(220)}<figcaption>{hit.score:.3f}</figcaption></figure>"
        for hit in search.hits
    )
    return f'<section class="card search"><h3>“{text(search.query)}”</h3><div class="hits">{hits}</div></section>'


def photo_card(photo: Photo) -> str:
    caption = "" if photo.caption is None else f'<p class="caption">{text(photo.caption)}</p>'
    rows = "".join(
        f"<span{best}>{text(label)}</span><b{best}>{score:.0%}</b>"
        f'<i{best}><u style="width:{max(100 * score, 1):.1f}%"></u></i>'
        for best, (label, score) in zip(
            [' class="best"', "", "", ""], photo.classification.scores.items(), strict=False
        )
    )
    picture = short(photo.item)
    return (
        f'<article class="card photo">{picture.thumbnail(540)}<div>{caption}<div class="scores">{rows}</div>'
        f'<p class="name">{text(picture.name)}</p></div></article>'
    )


def short(item: Item) -> Item:
    """Without the folders before its name, which are nobody's business on a page that is passed on."""
    return replace(picture, name=picture.name.replace("\\", "/").rpartition("/")[2])


def text(value: str) -> str:
    return html.escape(value)

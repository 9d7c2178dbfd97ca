import json
import math
import os
import pickle
import re
import subprocess
import sys
from functools import partial

import pytest
from PIL import Image

from multimodal.files import printable
from multimodal.results import Answer, Caption, Classification, Generation, Hit, Item, Match, Rejected, Results


def red(side=300):
    return Image.new("RGB", (side, side // 2), "red")


def missing():
    raise FileNotFoundError("gone")


PICTURE = Item("<b>cat</b>.jpg", red)
CLASSIFICATION = Classification("cat & dog", 0.75, {"cat & dog": 0.75, "fish": 0.2, "<i>": 0.05}, PICTURE, 2)
CAPTION = Caption("a cat > a dog", -1.25, PICTURE)
HIT = Hit("photos/<b>.jpg", 0.5, PICTURE)


@pytest.mark.parametrize("result", [CLASSIFICATION, CAPTION, HIT])
def test_html_is_escaped_and_carries_the_image(result):
    page = result._repr_html_()
    assert page.count('<img src="data:image/jpeg;base64,') == 1
    for raw in ("<b>", "<i>", "cat & dog", "a cat >"):
        assert raw not in page
    assert page.count("<div") == page.count("</div>")


@pytest.mark.parametrize("result", [CLASSIFICATION, CAPTION, HIT])
def test_an_image_that_is_gone_leaves_the_result(result):
    result = type(result)(**{**vars(result), "item": Item("gone.jpg", missing)})
    page = result._repr_html_()
    assert "<img" not in page
    assert "gone.jpg" in page
    assert json.dumps(result.to_dict())
    with pytest.raises(FileNotFoundError):
        result.image  # noqa: B018


def test_thumbnail_and_image():
    assert CLASSIFICATION.image.size == (300, 150)
    import base64
    import io

    data = re.search('base64,([^"]+)', PICTURE.thumbnail(64)).group(1)
    thumbnail = Image.open(io.BytesIO(base64.b64decode(data)))
    assert thumbnail.size == (64, 32)
    assert thumbnail.getpixel((5, 5))[0] > 200


def test_bars_are_as_long_as_the_scores():
    page = CLASSIFICATION._repr_html_()
    assert [float(w) for w in re.findall(r"width:([\d.]+)%", page)] == [75, 20, 5]
    assert "75.0%" in page


def test_printed():
    assert str(CLASSIFICATION) == "<b>cat</b>.jpg: cat & dog 75.0% (fish 20.0%, <i> 5.0%)"
    assert str(Classification("cat", 1.0, {"cat": 1.0}, PICTURE, 0)) == "<b>cat</b>.jpg: cat 100.0%"
    assert str(CAPTION) == "<b>cat</b>.jpg: a cat > a dog"
    assert str(HIT) == "0.500  photos/<b>.jpg"
    many = Classification("0", 0.1, {str(i): 0.1 for i in range(1000)}, PICTURE, 0)
    assert len(repr(many)) < 200


def test_to_dict_is_json():
    assert json.loads(json.dumps(CLASSIFICATION.to_dict())) == {
        "image": "<b>cat</b>.jpg",
        "label": "cat & dog",
        "score": 0.75,
        "scores": {"cat & dog": 0.75, "fish": 0.2, "<i>": 0.05},
        "index": 2,
    }
    assert json.loads(json.dumps(CAPTION.to_dict()))["text"] == "a cat > a dog"
    assert json.loads(json.dumps(HIT.to_dict())) == {"path": "photos/<b>.jpg", "score": 0.5}
    results = Results([HIT], [Rejected("bad.jpg", "not an image")])
    assert json.loads(json.dumps(results.to_dict())) == {
        "results": [HIT.to_dict()],
        "rejected": [{"name": "bad.jpg", "reason": "not an image"}],
    }


def test_results_are_a_list():
    hits = [Hit(f"{i}.jpg", i / 100, PICTURE) for i in range(60)]
    results = Results(hits, [Rejected("bad.jpg", "not an image")])
    assert results == hits
    assert results[3] is hits[3]
    assert isinstance(results[:5], Results)
    assert results[:5] == hits[:5]
    assert str(results).count("\n") == 60
    assert str(results).endswith("rejected bad.jpg: not an image")
    assert repr(results).splitlines()[-2:] == ["and 40 more", "1 rejected"]
    assert repr(results).count("\n") == 21
    page = results._repr_html_()
    assert page.count("<img") == 50
    assert "and 10 more" in page
    assert "rejected bad.jpg: not an image" in page
    assert repr(Results()) == "Results([])"
    assert "<img" not in Results()._repr_html_()


def test_results_travel():
    hit = Hit("a.jpg", math.pi, Item("a.jpg", partial(Image.new, "RGB", (2, 2))))
    again = pickle.loads(pickle.dumps(Results([hit], [Rejected("b", "c")])))
    assert again == [hit]
    assert again.rejected == [Rejected("b", "c")]
    assert again[0].image.size == (2, 2)


# file names that a disk may hold: bytes that are not UTF-8, line breaks, codes of terminals, directions
NAMES = {
    os.fsdecode(b"caf\xe9.png"): r"caf\udce9.png",
    "two\nlines.png": r"two\nlines.png",
    "\x1b[31mred\x1b[0m.png": r"\x1b[31mred\x1b[0m.png",
    "\x9b31mC1.png": r"\x9b31mC1.png",
    "return\rhome\b.png": r"return\rhome\x08.png",
    "gpj.\u202egnp.exe": r"gpj.\u202egnp.exe",
    "line\u2028separator.png": r"line\u2028separator.png",
    "\x07bell\x7f.png": r"\x07bell\x7f.png",
}
KEPT = ["می\u200cخواهم", "👨\u200d👩\u200d👧", "全\u3000角", "no\u00a0break", "soft\u00adhyphen", "naïve ‘quotes’"]


def shown(name):
    """Everything that shows a name, by kind of result."""
    item = Item(name, missing)
    scores = {name: 0.75, "b": 0.25}
    rejected = Rejected(name, f"cannot read {name}")
    results = [
        Classification(name, 0.75, scores, item, 0),
        Caption(name, -1.0, item),
        Hit(name, 0.5, item),
        Match(name, 0.5, item),
        Answer(name, name, -1.0, item),
    ]
    yield from results
    yield Generation(name, name, -1.0)
    yield Results(results[:1], [rejected])
    yield Results(results[1:], [rejected])


@pytest.mark.parametrize(("name", "escaped"), NAMES.items(), ids=NAMES.values())
def test_names_are_escaped_where_they_are_shown(name, escaped):
    for result in [*shown(name), Rejected(name, name)]:
        texts = [str(result), repr(result)]
        if hasattr(result, "_repr_html_"):
            texts.append(result._repr_html_())
        if hasattr(result, "to_dict"):
            texts.append(json.dumps(result.to_dict(), ensure_ascii=False))
        for text in texts:
            text.encode("utf-8")
            assert printable(text.replace("\n", "")) == text.replace("\n", ""), text
        if not isinstance(result, Generation):
            assert escaped in texts[0]
        if not isinstance(result, Generation | Results):
            assert "\n" not in texts[0]
    assert Hit(name, 0.5, Item(name, missing)).path == name  # it can be opened
    assert Rejected(name, "x").name == name


@pytest.mark.parametrize("name", ["two\nlines.png", "\x1b[31mred\x1b[0m.png", "return\rhome\b.png", "a\tb", *KEPT])
def test_json_of_names_is_the_name_where_utf_8_can_hold_it(name):
    found = json.loads(json.dumps(Hit(name, 0.5, Item(name, missing)).to_dict(), ensure_ascii=False))
    assert found["path"] == name


@pytest.mark.parametrize("name", KEPT)
def test_joiners_and_blanks_of_scripts_stay(name):
    assert printable(name) == name
    assert str(Caption(name, -1.0, Item(name, missing))) == f"{name}: {name}"
    assert Caption(name, -1.0, Item(name, missing)).to_dict()["text"] == name


def test_generated_lines_stay_lines():
    assert str(Generation("", "one\ntwo\x1b[0m", -1.0)) == "one\ntwo\\x1b[0m"


@pytest.mark.parametrize(("name", "escaped"), NAMES.items(), ids=NAMES.values())
def test_printing_to_strict_utf_8(name, escaped):
    script = (
        "import sys\n"
        "from multimodal.results import *\n"
        "name = eval(sys.argv[1])\n"
        "results = Results([Caption('a', -1.0, Item(name, None))], [Rejected(name, 'x')])\n"
        "print(results, repr(results), results[0], results.rejected, results.rejected[0], sep=chr(10))\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", script, ascii(name)], capture_output=True, env=environment, check=True)
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 7
    assert all(escaped in line for line in lines if "rejected" not in line or ":" in line)

import json
import math
import pickle
import re
from functools import partial

import pytest
from PIL import Image

from multimodal.results import Caption, Classification, Hit, Item, Rejected, Results


def red(side=300):
    return Image.new("RGB", (side, side // 2), "red")


def missing():
    raise FileNotFoundError("gone")


PICTURE = Item("<b>cat</b>.jpg", red)
CLASSIFICATION = Classification("cat & dog", 0.75, {"cat & dog": 0.75, "fish": 0.2, "<i>": 0.05}, PICTURE)
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
    assert str(Classification("cat", 1.0, {"cat": 1.0}, PICTURE)) == "<b>cat</b>.jpg: cat 100.0%"
    assert str(CAPTION) == "<b>cat</b>.jpg: a cat > a dog"
    assert str(HIT) == "0.500  photos/<b>.jpg"
    many = Classification("0", 0.1, {str(i): 0.1 for i in range(1000)}, PICTURE)
    assert len(repr(many)) < 200


def test_to_dict_is_json():
    assert json.loads(json.dumps(CLASSIFICATION.to_dict())) == {
        "image": "<b>cat</b>.jpg",
        "label": "cat & dog",
        "score": 0.75,
        "scores": {"cat & dog": 0.75, "fish": 0.2, "<i>": 0.05},
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

"""A report prints as an aligned table and serialises."""

import json

from multimodal.evaluation import Measure, Report
from multimodal.results import Rejected

REPORT = Report(
    (
        Measure("tiny-imagenet", "zero_shot_top1", 0.1035, 2000),
        Measure("flickr8k", "text_to_image_recall@10", 1.0, 5000),
        Measure("flickr8k", "CIDEr", 0.18449, 1000),
        Measure("flickr8k", "distinct_captions", 266, 1000),
    ),
    (Rejected("flickr8k/<b>.jpg", "it has no captions"),),
)


def test_prints_aligned() -> None:
    assert str(REPORT).splitlines() == [
        "dataset        measure                    value     n",
        "tiny-imagenet  zero_shot_top1            10.3 %  2000",
        "flickr8k       text_to_image_recall@10  100.0 %  5000",
        "flickr8k       CIDEr                      0.184  1000",
        "flickr8k       distinct_captions            266  1000",
        "rejected flickr8k/<b>.jpg: it has no captions",
    ]


def test_serialises() -> None:
    plain = json.loads(json.dumps(REPORT.to_dict()))
    assert plain["measures"][2] == {
        "dataset": "flickr8k",
        "measure": "CIDEr",
        "value": 0.18449,
        "n": 1000,
    }
    assert plain["rejected"] == [{"name": "flickr8k/<b>.jpg", "reason": "it has no captions"}]
    assert REPORT.flat() == {
        "tiny-imagenet/zero_shot_top1": 0.1035,
        "flickr8k/text_to_image_recall@10": 1.0,
        "flickr8k/CIDEr": 0.18449,
        "flickr8k/distinct_captions": 266,
    }


def test_shows_itself_with_names_escaped() -> None:
    shown = REPORT._repr_html_()
    assert shown.count("<tr>") == 5
    assert "<td>10.3 %</td>" in shown
    assert "&lt;b&gt;.jpg" in shown
    assert "<b>" not in shown


def test_empty() -> None:
    assert str(Report(())) == "dataset  measure  value  n"
    assert Report(()).flat() == {}

"""A report prints as an aligned table and serialises."""

import json

import pytest

from multimodal.evaluation import Report
from multimodal.metrics import Measure, read_measures
from multimodal.results import Rejected

REPORT = Report(
    (
        Measure("tiny-imagenet", "zero_shot_top1", 0.1035, 2000, "share"),
        Measure("flickr8k", "text_to_image_recall@10", 1.0, 5000, "share"),
        Measure("flickr8k", "CIDEr", 0.18449, 1000),
        Measure("flickr8k", "distinct_captions", 266, 1000, "count"),
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
        "unit": "number",
    }
    assert plain["rejected"] == [{"name": "flickr8k/<b>.jpg", "reason": "it has no captions"}]
    assert REPORT.flat() == {
        "tiny-imagenet/zero_shot_top1": 0.1035,
        "flickr8k/text_to_image_recall@10": 1.0,
        "flickr8k/CIDEr": 0.18449,
        "flickr8k/distinct_captions": 266,
    }


def test_figures_of_a_card_are_read_back() -> None:
    beam = Measure("flickr8k", "CIDEr", 0.21, 1000, strategy="beam")
    figures = json.loads(json.dumps(Report((*REPORT.rows, beam)).figures()))
    assert figures[2]["value"] == 0.1845
    assert [measure.shown for measure in read_measures(figures)] == [row.shown for row in REPORT.rows] + ["0.210"]
    assert read_measures(figures)[-1].cells() == ("flickr8k", "CIDEr (beam)", "0.210", "1000")
    assert read_measures({"top-1": 0.5}) == read_measures(None) == []
    with pytest.raises(ValueError, match=r"figures\[0\]: expected .*'value'"):
        read_measures([{"dataset": "a", "measure": "b", "n": 1}])


def test_html_is_escaped() -> None:
    shown = REPORT._repr_html_()
    assert shown.count("<tr>") == 5
    assert "<td>10.3 %</td>" in shown
    assert "&lt;b&gt;.jpg" in shown
    assert "<b>" not in shown


def test_empty() -> None:
    assert str(Report(())) == "dataset  measure  value  n"
    assert Report(()).flat() == {}

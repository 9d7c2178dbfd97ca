"""The entries that an evaluation adds to a model card."""

import pytest

from multimodal.evaluation import card, evaluation_card
from multimodal.evaluation.report import Report
from multimodal.metrics import Measure


def test_without_the_sample_photographs_there_is_no_gallery(make_model, monkeypatch):
    def missing():
        raise FileNotFoundError("photos: expected the photographs of scikit-image")

    monkeypatch.setattr(card, "sample_photos", missing)
    report = Report((Measure("set", "CIDEr", 0.25, 4),))
    with pytest.warns(UserWarning, match="no gallery: photos: expected"):
        entries, charts = evaluation_card(make_model(), report)
    assert charts == entries["charts"] == {}
    assert entries["figures"] == report.figures()
    assert entries["speed"]["captions per second"] > 0

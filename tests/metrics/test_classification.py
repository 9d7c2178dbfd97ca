"""Accuracy and calibration against slow, plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from multimodal.metrics import (
    ClassificationPredictions,
    accuracy_by_class,
    expected_calibration_error,
    per_class_accuracy,
    reliability,
    top_k_correct,
)


def top_k_accuracy(scores: Tensor, labels: Tensor, k: int = 1) -> float:
    return top_k_correct(scores, labels, k).mean().item()


def plain_top_k(scores: Tensor, labels: Tensor, k: int) -> float:
    hits = 0
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda number: (-row[number], number == label))
        hits += label in order[:k]
    return hits / len(scores)


def plain_ece(probabilities: Tensor, labels: Tensor, bins: int) -> float:
    members: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        confidence = max(row)
        right = row[label] == confidence and row.count(confidence) == 1
        members.setdefault(max(math.ceil(confidence * bins), 1), []).append((confidence, right))
    total = 0.0
    for items in members.values():
        total += abs(sum(confidence - right for confidence, right in items))
    return total / len(labels)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 10**6))
def test_agree_with_plain_loops(n: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, (n, classes), generator=generator).float()  # many ties
    labels = torch.randint(0, classes, (n,), generator=generator)
    for k in (1, 2, 10):
        assert top_k_accuracy(scores, labels, k) == plain_top_k(scores, labels, k)
    each = per_class_accuracy(scores, labels)
    for number in range(classes):
        own = labels == number
        if own.any():
            assert each[number] == plain_top_k(scores[own], labels[own], 1)
        else:
            assert each[number].isnan()
    probabilities = scores.double().softmax(1)
    for bins in (1, 7, 15):
        found = expected_calibration_error(probabilities, labels, bins)
        assert found == pytest.approx(plain_ece(probabilities, labels, bins), abs=1e-12)


def test_by_hand() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 0.0, 5.0], [1.0, 1.0, 1.0]])
    labels = torch.tensor([0, 1, 2, 0])
    assert top_k_accuracy(scores, labels) == 0.5
    assert top_k_accuracy(scores, labels, 2) == 0.75
    assert top_k_accuracy(scores, labels, 3) == 1  # of equal scores the right one comes last
    assert per_class_accuracy(scores, labels).tolist() == [0.5, 0, 1]


def test_calibration_by_hand() -> None:
    # Four predictions at 0.8 of which two are right, one at 0.6 that is right: |0.8 - 0.5| * 4/5 + 0.4 * 1/5
    probabilities = torch.tensor([[0.8, 0.2]] * 4 + [[0.4, 0.6]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1, 1])
    assert expected_calibration_error(probabilities, labels, 10) == pytest.approx(0.3 * 0.8 + 0.4 * 0.2)
    confidence, accuracy, images = reliability(probabilities, labels, 5)  # 0.6 and 0.8 are upper edges
    assert images.tolist() == [0, 0, 1, 4, 0]
    assert confidence.tolist() == pytest.approx([0, 0, 0.6, 0.8, 0])
    assert accuracy.tolist() == pytest.approx([0, 0, 1, 0.5, 0])


def test_a_confident_and_correct_model_is_calibrated() -> None:
    assert expected_calibration_error(torch.eye(4), torch.arange(4)) == 0
    assert expected_calibration_error(torch.eye(4), torch.tensor([1, 2, 3, 0])) == 1


def test_top_k_is_a_value_per_image() -> None:
    assert top_k_correct(torch.eye(3), torch.tensor([0, 2, 2])).tolist() == [1, 0, 1]


def test_a_class_without_images_has_no_accuracy() -> None:
    found = ClassificationPredictions(torch.eye(3)[[0, 1]], torch.tensor([0, 0]), ["a", "b", "c"])
    assert accuracy_by_class(found) == {"a": 0.5, "b": None, "c": None}


def test_wrong_arguments_raise() -> None:
    scores, labels = torch.rand(3, 2), torch.tensor([0, 1, 1])
    with pytest.raises(ValueError, match=r"\[3, 2\] and \[2\]"):
        top_k_accuracy(scores, labels[:2])
    with pytest.raises(ValueError, match="got 0 to 2"):
        top_k_accuracy(scores, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="NaN"):
        per_class_accuracy(torch.full((3, 2), torch.nan), labels)
    with pytest.raises(ValueError, match="at least one image"):
        top_k_accuracy(scores[:0], labels[:0])
    with pytest.raises(ValueError, match="k: expected at least 1, got 0"):
        top_k_accuracy(scores, labels, 0)
    with pytest.raises(ValueError, match="bins: expected at least 1, got 0"):
        expected_calibration_error(torch.eye(2)[[0, 1, 1]], labels, 0)
    with pytest.raises(ValueError, match="sum to 1"):
        expected_calibration_error(scores + 1, labels)
    with pytest.raises(ValueError, match="sum to 1"):
        expected_calibration_error(torch.tensor([[1.5, -0.5]]), torch.tensor([0]))

"""Recall against a slow, plain ranking."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from multimodal.metrics import image_text_ranks, ranks
from multimodal.metrics import recall_at_k as recall_per_query
from multimodal.metrics.retrieval import ROWS


def recall_at_k(similarity: Tensor, positives: Tensor, ks: tuple[int, ...] = (1, 5, 10)) -> dict[str, float]:
    found = ranks(similarity, positives)
    return {f"recall@{k}": recall_per_query(found, k).mean().item() for k in ks}


def image_text_recall(
    images: Tensor, texts: Tensor, image_of_text: Tensor, ks: tuple[int, ...] = (1, 5, 10)
) -> dict[str, float]:
    found = image_text_ranks(images, texts, image_of_text)._asdict()
    return {f"{side}_recall@{k}": recall_per_query(each, k).mean().item() for side, each in found.items() for k in ks}


def plain_recall(similarity: Tensor, positives: Tensor, k: int) -> float:
    """Sort all targets of each query, wrong ones first on a tie, and check the first k."""
    hits = 0
    for row, right in zip(similarity.tolist(), positives.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda target: (-row[target], right[target]))
        hits += any(right[target] for target in order[:k])
    return hits / len(similarity)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 10**6))
def test_agrees_with_sorting(queries: int, targets: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.randint(-3, 4, (queries, targets), generator=generator).float()  # many ties
    positives = torch.rand(queries, targets, generator=generator) < 0.3
    positives[torch.arange(queries), torch.randint(0, targets, (queries,), generator=generator)] = True
    found = recall_at_k(similarity, positives, ks=(1, 2, 5, 10))
    assert found == {f"recall@{k}": plain_recall(similarity, positives, k) for k in (1, 2, 5, 10)}


def test_by_hand() -> None:
    similarity = torch.tensor([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4]])
    positives = torch.tensor([[False, True, False, True], [False, False, False, True]])
    assert recall_at_k(similarity, positives, (1, 2)) == {"recall@1": 0.5, "recall@2": 1.0}


def test_a_constant_model_finds_nothing() -> None:
    assert recall_at_k(torch.zeros(20, 20), torch.eye(20, dtype=torch.bool)) == {
        "recall@1": 0,
        "recall@5": 0,
        "recall@10": 0,
    }


def test_both_directions_with_several_sentences_per_image() -> None:
    # Only one of the two sentences of image 1 is near it: enough for image to text, not for text to image.
    images = torch.eye(3)
    texts = torch.eye(3)[[0, 1, 2, 0]]
    found = image_text_recall(images, texts, torch.tensor([0, 1, 2, 1]), ks=(1, 3))
    assert found == {
        "image_to_text_recall@1": pytest.approx(2 / 3),  # image 0 is as near to a sentence of image 1
        "image_to_text_recall@3": 1,
        "text_to_image_recall@1": pytest.approx(3 / 4),
        "text_to_image_recall@3": 1,
    }


def test_more_queries_than_are_scored_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(300, 8, generator=generator), dim=1)
    owner = torch.arange(ROWS + 200) % 300
    texts = images[owner] + 0.7 * torch.randn(len(owner), 8, generator=generator)
    texts = torch.nn.functional.normalize(texts, dim=1)
    positives = owner[:, None] == torch.arange(300)
    similarity = texts @ images.T
    found = image_text_recall(images, texts, owner, ks=(10,))
    assert found["text_to_image_recall@10"] == plain_recall(similarity, positives, 10)
    assert found["image_to_text_recall@10"] == plain_recall(similarity.T, positives.T, 10)
    assert 0.1 < found["text_to_image_recall@10"] < 0.9


def test_wrong_arguments_raise() -> None:
    eye = torch.eye(2, dtype=torch.bool)
    with pytest.raises(ValueError, match="NaN"):
        recall_at_k(torch.tensor([[0.0, torch.nan], [0.0, 1.0]]), eye)
    with pytest.raises(ValueError, match=r"none for \[1\]"):
        recall_at_k(torch.zeros(2, 2), torch.tensor([[True, False], [False, False]]))
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[2, 2\]"):
        recall_at_k(torch.zeros(2, 3), eye)
    with pytest.raises(ValueError, match="int64"):
        recall_at_k(torch.zeros(2, 2), eye.long())
    with pytest.raises(ValueError, match="at least 1, got 0"):
        recall_at_k(torch.zeros(2, 2), eye, (0, 1))
    with pytest.raises(ValueError, match="at least one query"):
        recall_at_k(torch.zeros(0, 2), eye[:0])
    with pytest.raises(ValueError, match="image_of_text"):
        image_text_recall(torch.eye(2), torch.eye(2), torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match=r"none for \[1\]"):  # an image without a sentence
        image_text_recall(torch.eye(2), torch.eye(2), torch.tensor([0, 0]))

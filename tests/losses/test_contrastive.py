"""The contrastive losses compared with cross-entropy, open_clip and loops over pairs."""

import math

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss

from multimodal.losses import info_nce, sigmoid_loss

B, D = 6, 8
GROUPS = [3, 1, 3, 7, 1, 3]  # {0, 2, 5}, {1, 4}, {3}


@pytest.fixture
def embeddings():
    images, texts = torch.randn(2, B, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return F.normalize(images, dim=1).requires_grad_(), F.normalize(texts, dim=1).requires_grad_()


@pytest.fixture
def scale():
    return torch.tensor(9.0, dtype=torch.float64, requires_grad=True)


def assert_same_value_and_gradients(got, expected, *inputs):
    torch.testing.assert_close(got, expected, check_dtype=False)
    for ours, theirs in zip(torch.autograd.grad(got, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_info_nce_is_the_mean_of_two_cross_entropies(embeddings, scale):
    images, texts = embeddings
    logits, own = scale * images @ texts.T, torch.arange(B)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert_same_value_and_gradients(info_nce(images, texts, scale), expected, images, texts, scale)


def test_info_nce_equals_open_clips(embeddings, scale):
    images, texts = embeddings
    expected = ClipLoss()(images, texts, scale)
    assert_same_value_and_gradients(info_nce(images, texts, scale), expected, images, texts, scale)


def test_groups_of_one_pair_change_nothing(embeddings, scale):
    groups = torch.tensor([9, 4, 7, 1, 0, 2])
    torch.testing.assert_close(info_nce(*embeddings, scale, groups), info_nce(*embeddings, scale))


def test_info_nce_spreads_the_target_over_the_group(embeddings, scale):
    images, texts = embeddings
    expected = torch.zeros(())
    for here, there in ((images, texts), (texts, images)):
        for i in range(B):
            scores = [scale * here[i] @ there[j] for j in range(B)]
            total = torch.stack(scores).exp().sum()
            positives = [j for j in range(B) if GROUPS[j] == GROUPS[i]]
            for j in positives:
                expected = expected - (scores[j].exp() / total).log() / len(positives) / B / 2
    got = info_nce(images, texts, scale, torch.tensor(GROUPS))
    assert_same_value_and_gradients(got, expected, images, texts, scale)


def test_info_nce_of_equal_embeddings_is_the_log_of_the_batch_size(scale):
    same = F.normalize(torch.ones(B, D), dim=1)
    assert info_nce(same, same, scale).item() == pytest.approx(math.log(B))


@pytest.mark.parametrize("bias", [-10.0, 0.5])
def test_sigmoid_loss_equals_open_clips(embeddings, scale, bias):
    images, texts = embeddings
    b = torch.tensor(bias, dtype=torch.float64, requires_grad=True)
    expected = SigLipLoss()(images, texts, scale, b)
    assert_same_value_and_gradients(sigmoid_loss(images, texts, scale, b), expected, images, texts, scale, b)


def test_sigmoid_loss_with_groups_equals_the_loop_in_the_paper(embeddings, scale):
    images, texts = embeddings
    b = torch.tensor(-3.0, dtype=torch.float64, requires_grad=True)
    expected = torch.zeros(())
    for i in range(B):
        for j in range(B):
            label = 1 if GROUPS[i] == GROUPS[j] else -1
            expected = expected + (1 + (-label * (scale * images[i] @ texts[j] + b)).exp()).log() / B
    got = sigmoid_loss(images, texts, scale, b, torch.tensor(GROUPS))
    assert_same_value_and_gradients(got, expected, images, texts, scale, b)


def test_perfect_pairs_have_no_loss_and_wrong_pairs_a_large_one():
    rows, scale = torch.eye(4), torch.tensor(100.0)
    assert info_nce(rows, rows, scale).item() == pytest.approx(0, abs=1e-6)
    assert info_nce(rows, rows.roll(1, 0), scale).item() == pytest.approx(100, rel=1e-5)
    assert sigmoid_loss(rows, rows, scale, torch.tensor(-50.0)).item() == pytest.approx(0, abs=1e-6)

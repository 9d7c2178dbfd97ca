"""The captioning loss compared with a loop over tokens."""

import math

import pytest
import torch

from multimodal.losses import captioning_loss

B, L, V = 3, 5, 7


def make_batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(B, L, V, generator=generator, dtype=torch.float64).float().requires_grad_()
    targets = torch.randint(V, (B, L), generator=generator)
    mask = torch.arange(L) < torch.tensor([5, 2, 3])[:, None]
    return logits, targets, mask


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_over_real_tokens(smoothing):
    logits, targets, mask = make_batch()
    losses = []
    for row in range(B):
        for place in range(L):
            if mask[row, place]:
                log_p = (logits[row, place].exp() / logits[row, place].exp().sum()).log()
                wanted = [smoothing / V + (1 - smoothing) * (v == targets[row, place]) for v in range(V)]
                losses.append(-sum(w * log_p[v] for v, w in enumerate(wanted)))
    expected = sum(losses) / len(losses)
    assert len(losses) == 10
    got = captioning_loss(logits, targets, mask, smoothing)
    torch.testing.assert_close(got, expected)
    (ours,), (theirs,) = torch.autograd.grad(got, logits), torch.autograd.grad(expected, logits)
    torch.testing.assert_close(ours, theirs)
    assert (ours[~mask] == 0).all()


def test_padding_is_ignored():
    logits, targets, mask = make_batch()
    expected = captioning_loss(logits, targets, mask)
    noisy = logits.detach().clone()
    noisy[~mask] = torch.nan
    assert torch.equal(captioning_loss(noisy, targets.masked_fill(~mask, -1), mask), expected)


def test_equal_logits_give_the_log_of_the_vocabulary_size():
    _, targets, mask = make_batch()
    assert captioning_loss(torch.zeros(B, L, V), targets, mask).item() == pytest.approx(math.log(V))


def test_the_loss_without_a_real_token_is_zero():
    logits, targets, mask = make_batch()
    loss = captioning_loss(logits, targets, torch.zeros_like(mask))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()

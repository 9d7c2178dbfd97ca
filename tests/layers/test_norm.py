"""Norms compared with transformers and with formulas."""

import pytest
import torch

from multimodal.layers import build_norm

from .peers import randomise

WIDTH, EPS = 12, 1e-3


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rms_norm_equals_llamas(dtype):
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    theirs = randomise(LlamaRMSNorm(WIDTH, EPS)).to(dtype)
    ours = build_norm("rms", WIDTH, EPS).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    x = (0.1 * torch.randn(3, 5, WIDTH) + 0.2).to(dtype)  # small: eps counts
    tolerance = 1e-6 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(ours(x), theirs(x), atol=tolerance, rtol=tolerance)


def test_layer_norm_subtracts_the_mean():
    norm = randomise(build_norm("layer", WIDTH, EPS))
    x = 0.1 * torch.randn(3, 5, WIDTH) + 0.2
    centred = x - x.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + EPS).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(norm(x), expected)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"norm: expected one of \['layer', 'rms'\], got 'batch'"):
        build_norm("batch", WIDTH, EPS)

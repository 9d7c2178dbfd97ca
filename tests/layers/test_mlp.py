"""The feed-forward layers compared with transformers and with formulas."""

import pytest
import torch
import torch.nn.functional as F

from multimodal.layers import GatedMLP, build_activation, mlp

WIDTH, HIDDEN = 12, 20


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_activations():
    x = torch.linspace(-5, 5, 101)
    torch.testing.assert_close(build_activation("gelu")(x), F.gelu(x))
    torch.testing.assert_close(build_activation("gelu_tanh")(x), F.gelu(x, approximate="tanh"))
    torch.testing.assert_close(build_activation("quick_gelu")(x), x / (1 + torch.exp(-1.702 * x)))
    torch.testing.assert_close(build_activation("relu")(x), x.clamp(min=0))
    torch.testing.assert_close(build_activation("silu")(x), x / (1 + torch.exp(-x)))
    with pytest.raises(ValueError, match=r"activation: expected one of \['gelu', .*'silu'\], got 'swish'"):
        build_activation("swish")


@pytest.mark.parametrize("bias", [True, False])
def test_the_plain_mlp_is_two_linear_maps(bias):
    ours = mlp(WIDTH, HIDDEN, "relu", bias)
    x = torch.randn(3, 5, WIDTH)
    expected = F.linear(F.linear(x, ours[0].weight, ours[0].bias).relu(), ours[2].weight, ours[2].bias)
    torch.testing.assert_close(ours(x), expected)
    assert (ours[0].bias is not None) == (ours[2].bias is not None) == bias


def test_the_gated_mlp_equals_llamas():
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    theirs = LlamaMLP(LlamaConfig(hidden_size=WIDTH, num_attention_heads=2, intermediate_size=HIDDEN))
    ours = GatedMLP(WIDTH, HIDDEN)
    ours.load_state_dict({k.replace("_proj", ""): v for k, v in theirs.state_dict().items()})
    x = torch.randn(3, 5, WIDTH)
    torch.testing.assert_close(ours(x), theirs(x))


def test_the_gated_mlp_equals_t5s():
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5DenseGatedActDense

    theirs = T5DenseGatedActDense(
        T5Config(d_model=WIDTH, d_ff=HIDDEN, feed_forward_proj="gated-gelu", dropout_rate=0.0)
    )
    ours = GatedMLP(WIDTH, HIDDEN, "gelu_tanh")
    names = {"wi_0.weight": "gate.weight", "wi_1.weight": "up.weight", "wo.weight": "down.weight"}
    ours.load_state_dict({names[k]: v for k, v in theirs.state_dict().items()})
    x = torch.randn(3, 5, WIDTH)
    torch.testing.assert_close(ours(x), theirs(x))

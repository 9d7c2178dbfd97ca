"""Heads compared with transformers."""

import pytest
import torch
from torch import nn

from multimodal.layers import BertHead, LinearHead, build_head

from .peers import randomise

WIDTH, VOCABULARY = 12, 20


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_the_bert_head_equals_that_of_transformers():
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLMPredictionHead

    config = BertConfig(hidden_size=WIDTH, vocab_size=VOCABULARY, layer_norm_eps=1e-3)
    theirs = randomise(BertLMPredictionHead(config))
    ours = build_head("bert", WIDTH, VOCABULARY, "gelu", 1e-3)
    assert isinstance(ours, BertHead)
    ours.dense.load_state_dict(theirs.transform.dense.state_dict())
    ours.norm.load_state_dict(theirs.transform.LayerNorm.state_dict())
    ours.linear.load_state_dict(theirs.decoder.state_dict())
    x = torch.randn(3, 5, WIDTH)
    torch.testing.assert_close(ours(x), theirs(x))


def test_a_tied_head_shares_the_token_embedding():
    embedding = nn.Embedding(VOCABULARY, WIDTH)
    x = torch.randn(3, 5, WIDTH)
    linear = build_head("linear", WIDTH, VOCABULARY, "gelu", 1e-5)
    assert isinstance(linear, LinearHead)
    assert linear.weight is not embedding.weight
    linear.tie(embedding)
    assert linear.weight is embedding.weight
    assert linear.bias is None
    torch.testing.assert_close(linear(x), x @ embedding.weight.T)

    bert = build_head("bert", WIDTH, VOCABULARY, "gelu", 1e-5)
    bert.tie(embedding)
    assert bert.linear.weight is embedding.weight
    nn.init.normal_(bert.linear.bias)
    hidden = bert.norm(bert.activation(bert.dense(x)))
    torch.testing.assert_close(bert(x), hidden @ embedding.weight.T + bert.linear.bias)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"head: expected one of \('linear', 'bert'\), got 'mlp'"):
        build_head("mlp", WIDTH, VOCABULARY, "gelu", 1e-5)

"""An encoder and a decoder compared with T5 of transformers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from multimodal.decoders import TextDecoderConfig
from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.layers import Encoded
from multimodal.models import MODELS, EncoderDecoderConfig, build_model
from multimodal.models.encoder_decoder import with_first_token, with_pooled
from tests.layers.peers import copy_to_t5

from .towers import spread

WIDTH, HEADS, LAYERS, VOCABULARY, CONTEXT, EOS = 32, 4, 2, 60, 40, 1
T5 = {
    "vocab_size": VOCABULARY,
    "context_length": CONTEXT,
    "width": WIDTH,
    "heads": HEADS,
    "layers": LAYERS,
    "positions": "relative",
    "norm": "rms",
    "eps": 1e-6,
    "mlp": "gated",
    "activation": "gelu_tanh",
    "bias": False,
    "attention_scale": 1.0,
}
CONFIG = EncoderDecoderConfig(
    encoder=TextEncoderConfig(causal=False, pooling="mean", eos_id=EOS, **T5),
    decoder=TextDecoderConfig(tie_embeddings=False, bos_id=0, **T5),
    generation={"max_new_tokens": 20},
)


def make_t5(network):
    """transformers' T5 1.1 with the weights of `network`."""
    from transformers import T5Config, T5ForConditionalGeneration

    theirs = T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCABULARY,
            d_model=WIDTH,
            d_kv=WIDTH // HEADS,
            d_ff=4 * WIDTH,
            num_layers=LAYERS,
            num_heads=HEADS,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
        )
    ).eval()
    theirs.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)  # T5Config ties the weights whatever it is told
    encoder, decoder = network.encoders["text"], network.decoder
    decoder.embedding.load_state_dict(encoder.embedding.state_dict())  # T5 has one
    copy_to_t5(encoder, theirs.encoder)
    copy_to_t5(decoder, theirs.decoder)
    theirs.lm_head.load_state_dict(decoder.head.state_dict())
    return theirs


@torch.no_grad()
def test_logits_equal_t5s():
    torch.manual_seed(0)
    network = spread(build_model(CONFIG))
    theirs = make_t5(network)
    tokens = torch.randint(2, VOCABULARY, (3, CONTEXT))  # beyond the distances that have a bucket each
    for row, length in enumerate((CONTEXT, 17, 3)):
        tokens[row, length - 1] = EOS
        tokens[row, length:] = 0
    real = torch.arange(CONTEXT) < torch.tensor([CONTEXT, 17, 3])[:, None]
    written = torch.randint(2, VOCABULARY, (3, 30))
    expected = theirs(tokens, real.long(), decoder_input_ids=written).logits
    memory = network.memory({"text": tokens})
    got = network.decoder(written, memory).logits
    assert expected.abs().max() > 1
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-4)
    cache = network.decoder.new_cache()
    steps = [network.decoder(piece, memory, cache).logits for piece in written.split(1, 1)]
    torch.testing.assert_close(torch.cat(steps, 1), expected, atol=1e-3, rtol=1e-4)


def test_round_trip():
    image = ImageEncoderConfig(image_size=32, patch_size=16, width=32, layers=1, heads=2)
    for config in (CONFIG, replace(CONFIG, encoder=image, pooled_in_memory=True, generation={})):
        assert MODELS.from_dict(MODELS.to_dict(config)) == config
        network = build_model(config)
        assert network.config == config
        assert network.defaults == config.generation
        assert network.sources == tuple(network.encoders)
    assert network.sources == ("image",)


@pytest.mark.parametrize("pooled_in_memory", [False, True])
@torch.no_grad()
def test_the_pooled_vector_comes_before_the_features(pooled_in_memory):
    image = ImageEncoderConfig(image_size=32, patch_size=16, width=32, layers=1, heads=2)
    network = spread(build_model(replace(CONFIG, encoder=image, pooled_in_memory=pooled_in_memory)))
    images = torch.randn(2, 3, 32, 32)
    encoded = network.encoders["image"](images)
    features = [encoded.pooled[:, None]] * pooled_in_memory + [encoded.features]
    expected = network.decoder.project_memory(Encoded(torch.cat(features, 1), encoded.pooled))
    for got, theirs in zip(network.memory({"image": images}).layers, expected.layers, strict=True):
        torch.testing.assert_close(got, theirs)


def test_the_mask_covers_the_pooled_vector():
    features, mask = torch.randn(2, 3, 4), torch.tensor([[True, True, False], [False, False, False]])
    found = with_pooled(Encoded(features, features[:, 0], mask))
    assert found.mask.tolist() == [[True, True, True, False], [True, False, False, False]]
    assert with_pooled(Encoded(features, features[:, 0])).mask is None
    only = Encoded(None, features[:, 0])
    assert with_pooled(only) is only


def test_with_first_token():
    tokens = torch.tensor([[5, 6, 7], [8, 9, 10]])
    assert with_first_token(tokens, 3).tolist() == [[3, 6, 7], [3, 9, 10]]
    assert with_first_token(tokens, None) is tokens
    assert tokens[0, 0] == 5

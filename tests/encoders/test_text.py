"""The text encoder compared with PyTorch's layers, one text at a time."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from multimodal.encoders import TextEncoder, TextEncoderConfig
from multimodal.layers import Encoded
from tests.layers.peers import torch_decoder_layer, torch_encoder_layer

from .tiny import CONTEXT, LENGTHS, POSITIONS, VOCAB, WIDTH, make, make_tokens


def reference(encoder: TextEncoder, tokens: torch.Tensor, lengths: list[int]) -> list[torch.Tensor]:
    """Each text by itself, without padding, through nn.TransformerEncoderLayer -> features [L, W] each."""
    config = encoder.config
    layers = [torch_encoder_layer(block, config.norm_order == "pre") for block in encoder.blocks]
    features = []
    for row, length in enumerate(lengths):
        x = encoder.embedding.weight[tokens[row, :length]] + encoder.positions[:length]
        mask = nn.Transformer.generate_square_subsequent_mask(length) if config.causal else None
        x = encoder.embedding_norm(x)
        for layer in layers:
            x = layer(x[None], src_mask=mask)[0]
        features.append(encoder.norm(x))
    return features


@pytest.mark.parametrize("norm_order", ["pre", "post"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pooling", ["eos", "cls", "mean"])
def test_equals_each_text_by_itself(causal, pooling, norm_order):
    encoder, tokens = make(causal=causal, pooling=pooling, norm_order=norm_order), make_tokens()
    encoded = encoder(tokens)
    assert encoded.features.shape == (4, max(LENGTHS), WIDTH)  # only up to the longest text
    expected = reference(encoder, tokens, LENGTHS)
    for row, length in enumerate(LENGTHS):
        features = expected[row]
        torch.testing.assert_close(encoded.features[row, :length], features, atol=1e-5, rtol=1e-5)
        pooled = {"eos": features[-1], "cls": features[0], "mean": features.mean(0)}[pooling]
        torch.testing.assert_close(encoded.pooled[row], pooled, atol=1e-5, rtol=1e-5)
        assert encoded.mask[row].tolist() == [i < length for i in range(max(LENGTHS))]


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pooling", ["eos", "cls", "mean"])
def test_padding_and_neighbours_do_not_change_a_text(causal, pooling, positions):
    encoder, tokens = make(causal=causal, pooling=pooling, positions=positions), make_tokens()
    plain = encoder(tokens).pooled
    other = tokens.clone()
    for row, length in enumerate(LENGTHS):
        other[row, length:] = torch.randint(0, VOCAB, (CONTEXT - length,))
    for changed in (
        encoder(tokens[:, : max(LENGTHS)]).pooled,
        encoder(other).pooled,
        encoder(torch.cat([tokens, make_tokens([CONTEXT])])).pooled[:4],
        torch.cat([encoder(row[None]).pooled for row in tokens]),
    ):
        torch.testing.assert_close(changed, plain, atol=1e-5, rtol=1e-5)


def test_a_mask_gives_the_lengths():
    encoder, tokens = make(causal=False, pooling="mean"), make_tokens()
    mask = torch.zeros(4, CONTEXT, dtype=torch.bool)
    lengths = [2, 6, 1, 4]
    for row, length in enumerate(lengths):
        mask[row, :length] = True
    encoded = encoder(tokens, mask)
    for row, features in enumerate(reference(encoder, tokens, lengths)):
        torch.testing.assert_close(encoded.pooled[row], features.mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("causal", [True, False])
def test_a_causal_feature_does_not_depend_on_later_tokens(causal, positions):
    encoder = make(causal=causal, positions=positions)
    embedded = []
    encoder.embedding.register_forward_hook(lambda module, args, output: embedded.append(output))
    features = encoder(make_tokens([8])).features  # [1, 8, W]
    for position in range(8):
        [gradient] = torch.autograd.grad(features[0, position].pow(2).sum(), embedded[0], retain_graph=True)
        reached = gradient[0].abs().sum(-1) > 0
        assert reached.tolist() == [not causal or i <= position for i in range(8)]


def test_a_batch_of_no_texts():
    encoded = make()(torch.zeros(0, CONTEXT, dtype=torch.long))
    assert encoded.pooled.shape == (0, WIDTH)


@torch.no_grad()
@pytest.mark.parametrize("causal", [True, False])
def test_blocks_with_a_memory_equal_torchs_decoder_layers(causal):
    encoder = make(memory_width=WIDTH, causal=causal, norm_order="post", pooling="cls")
    tokens = make_tokens()
    features = torch.randn(4, 5, WIDTH)
    real = torch.arange(5) < torch.tensor([5, 2, 1, 3])[:, None]
    layers = [torch_decoder_layer(block, norm_first=False) for block in encoder.blocks]
    for mask in (real, None):
        encoded = encoder(tokens, memory=Encoded(features, features[:, 0], mask))
        for row, length in enumerate(LENGTHS):
            x = encoder.embedding_norm(encoder.embedding(tokens[row, :length]) + encoder.positions[:length])
            hidden = nn.Transformer.generate_square_subsequent_mask(length) if causal else None
            memory = features[row : row + 1] if mask is None else features[row : row + 1, real[row]]
            for layer in layers:
                x = layer(x[None], memory, tgt_mask=hidden)[0]
            torch.testing.assert_close(encoded.features[row, :length], x, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(encoded.pooled[row], x[0], atol=1e-5, rtol=1e-5)
    # Without a memory the blocks leave out their cross-attention.
    plain = TextEncoder(replace(encoder.config, memory_width=None)).eval()
    plain.load_state_dict({k: v for k, v in encoder.state_dict().items() if "cross" not in k})
    torch.testing.assert_close(encoder(tokens).pooled, plain(tokens).pooled)


@torch.no_grad()
def test_texts_that_share_a_memory_equal_copies_of_the_memory():
    encoder, tokens = make(memory_width=WIDTH, causal=False), make_tokens()
    features = torch.randn(2, 5, WIDTH)
    mask = torch.arange(5) < torch.tensor([5, 2])[:, None]
    expected = encoder(
        tokens, memory=Encoded(features.repeat_interleave(2, 0), features[:, 0], mask.repeat_interleave(2, 0))
    )
    got = encoder(tokens, memory=Encoded(features, features[:, 0], mask))
    torch.testing.assert_close(got.features, expected.features, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_an_encoder_that_attends_to_padding_equals_torchs(pooling):
    encoder = make(causal=False, attends_padding=True, pooling=pooling)
    tokens = make_tokens()
    whole = reference(encoder, tokens, [CONTEXT] * 4)
    encoded = encoder(tokens)
    torch.testing.assert_close(encoded.features, torch.stack(whole), atol=1e-5, rtol=1e-5)
    assert encoded.mask.sum(1).tolist() == LENGTHS
    for row, length in enumerate(LENGTHS):
        pooled = whole[row][-1] if pooling == "last" else whole[row][:length].mean(0)
        torch.testing.assert_close(encoded.pooled[row], pooled, atol=1e-5, rtol=1e-5)


def test_inputs_that_do_not_match_the_config():
    with pytest.raises(ValueError, match="expected at most 12 a text, got 13"):
        make()(torch.zeros(1, CONTEXT + 1, dtype=torch.long))
    with pytest.raises(ValueError, match="tokens: expected 12 with padding, got 11"):
        make(causal=False, attends_padding=True)(torch.zeros(1, CONTEXT - 1, dtype=torch.long))
    pooled = torch.randn(4, WIDTH)
    with pytest.raises(ValueError, match="memory: expected a sequence of features, got only a pooled vector"):
        make(memory_width=WIDTH)(make_tokens(), memory=Encoded(None, pooled))
    for encoder in (make(), make(pooling="appended")):
        with pytest.raises(ValueError, match=r"memory: expected none \(memory_width None\), got one"):
            encoder(make_tokens(), memory=Encoded(pooled[:, None], pooled))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pooling": "max"}, r"pooling: expected one of .*'mean'.*, got 'max'"),
        ({"positions": "absolute"}, r"positions: expected one of .*'rotary'.*, got 'absolute'"),
        ({"pooling": "last", "causal": False}, "pooling: 'last' requires attends_padding"),
        ({"attends_padding": True}, "attends_padding: expected False for a causal text, got True"),
        (
            {"pooling": "appended", "positions": "rotary"},
            "positions: expected 'learned' for 'appended' pooling, got 'rotary'",
        ),
        ({"pooling": "appended", "causal": False}, "causal: expected True for 'appended' pooling, got False"),
        ({"pooling": "appended", "norm_order": "post"}, "norm_order: expected 'pre' for 'appended' pooling"),
        ({"pooling": "appended", "memory_width": 8}, "memory_width: expected None for 'appended' pooling, got 8"),
    ],
)
def test_mistakes_in_a_config(fields, message):
    with pytest.raises(ValueError, match=message):
        TextEncoderConfig(**fields)

"""The text encoder compared with PyTorch's and transformers' own, one text at a time."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from multimodal.encoders import TextEncoder, TextEncoderConfig
from multimodal.layers import Encoded
from tests.layers.peers import randomise, torch_decoder_layer, torch_encoder_layer

EOS, VOCAB, WIDTH, HEADS, LAYERS, CONTEXT = 9, 30, 24, 3, 2, 12
LENGTHS = [3, 8, 5, 2]
POSITIONS = ["learned", "rotary", "relative"]


def make(**fields) -> TextEncoder:
    torch.manual_seed(0)
    given = {"vocab_size": VOCAB, "context_length": CONTEXT, "eos_id": EOS}
    sizes = {"width": WIDTH, "layers": LAYERS, "heads": HEADS}
    return randomise(TextEncoder(TextEncoderConfig(**(given | sizes | fields))), 0.2).eval()


def make_tokens(lengths=LENGTHS, columns=CONTEXT) -> torch.Tensor:
    tokens = torch.randint(10, VOCAB, (len(lengths), columns), generator=torch.Generator().manual_seed(1))
    for row, length in enumerate(lengths):
        tokens[row, length - 1] = EOS
        tokens[row, length:] = 0
    return tokens


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


@torch.no_grad()
def test_the_appended_token_equals_open_clips():
    """open_clip's mask is shifted by one place, and its weights were trained with it."""
    from open_clip.transformer import TextTransformer

    encoder = make(pooling="appended")
    theirs = TextTransformer(
        CONTEXT, VOCAB, WIDTH, HEADS, LAYERS, embed_cls=True, output_tokens=True, proj_type="none"
    )
    theirs.token_embedding.load_state_dict(encoder.embedding.state_dict())
    theirs.positional_embedding.copy_(encoder.positions)
    theirs.cls_emb.copy_(encoder.appended)
    theirs.ln_final.load_state_dict(encoder.norm.state_dict())
    for mine, block in zip(encoder.blocks, theirs.transformer.resblocks, strict=True):
        block.attn.in_proj_weight.copy_(mine.attention.qkv.weight)
        block.attn.in_proj_bias.copy_(mine.attention.qkv.bias)
        for ours, other in (
            (mine.attention.out, block.attn.out_proj),
            (mine.norm1, block.ln_1),
            (mine.norm2, block.ln_2),
            (mine.mlp[0], block.mlp.c_fc),
            (mine.mlp[2], block.mlp.c_proj),
        ):
            other.load_state_dict(ours.state_dict())
    lengths = [3, CONTEXT, 5, 1]
    tokens = make_tokens(lengths)
    expected, features = theirs.eval()(tokens)
    encoded = encoder(tokens)
    torch.testing.assert_close(encoded.pooled, expected, atol=1e-5, rtol=1e-5)
    for row, length in enumerate(lengths):  # before the last norm, as the decoder expects them
        torch.testing.assert_close(
            encoded.features[row, :length], features[row, :length], atol=1e-5, rtol=1e-5
        )
    assert encoded.mask.sum(1).tolist() == lengths
    for row in range(4):  # alone, with fewer columns
        alone = encoder(tokens[row : row + 1]).pooled[0]
        torch.testing.assert_close(alone, expected[row], atol=1e-5, rtol=1e-5)


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
        tokens,
        memory=Encoded(features.repeat_interleave(2, 0), features[:, 0], mask.repeat_interleave(2, 0)),
    )
    got = encoder(tokens, memory=Encoded(features, features[:, 0], mask))
    torch.testing.assert_close(got.features, expected.features, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_relative_positions_equal_t5s():
    from transformers import T5Config, T5EncoderModel

    encoder = make(
        positions="relative",
        causal=False,
        pooling="mean",
        norm="rms",
        mlp="gated",
        activation="gelu_tanh",
        bias=False,
        attention_scale=1.0,
        eps=1e-6,
        context_length=60,
    )
    config = T5Config(
        vocab_size=VOCAB,
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        d_ff=4 * WIDTH,
        num_layers=LAYERS,
        num_heads=HEADS,
        feed_forward_proj="gated-gelu",
    )
    theirs = T5EncoderModel(config).eval()
    theirs.shared.load_state_dict(encoder.embedding.state_dict())
    stack = theirs.encoder
    stack.final_layer_norm.load_state_dict(encoder.norm.state_dict())
    attention = stack.block[0].layer[0].SelfAttention
    attention.relative_attention_bias.load_state_dict(encoder.relative.bias.state_dict())
    for mine, block in zip(encoder.blocks, stack.block, strict=True):
        attention, mlp = block.layer[0].SelfAttention, block.layer[1].DenseReluDense
        for name, weight in zip("qkv", mine.attention.qkv.weight.chunk(3), strict=True):
            getattr(attention, name).weight.copy_(weight)
        for ours, other in (
            (mine.attention.out, attention.o),
            (mine.norm1, block.layer[0].layer_norm),
            (mine.norm2, block.layer[1].layer_norm),
            (mine.mlp.gate, mlp.wi_0),
            (mine.mlp.up, mlp.wi_1),
            (mine.mlp.down, mlp.wo),
        ):
            other.load_state_dict(ours.state_dict())
    lengths = [60, 33, 5, 2]  # beyond the distances that have a bucket each
    tokens = make_tokens(lengths, 60)
    encoded = encoder(tokens)
    expected = theirs(tokens, encoded.mask.long()).last_hidden_state
    torch.testing.assert_close(encoded.features[encoded.mask], expected[encoded.mask], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rotary_positions_equal_llamas():
    from transformers import LlamaConfig, LlamaModel

    encoder = make(
        positions="rotary", norm="rms", mlp="gated", activation="silu", bias=False, eps=1e-6, mlp_ratio=2.5
    )
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        intermediate_size=60,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=CONTEXT,
    )
    theirs = LlamaModel(config).eval()
    theirs.embed_tokens.load_state_dict(encoder.embedding.state_dict())
    theirs.norm.load_state_dict(encoder.norm.state_dict())
    for mine, layer in zip(encoder.blocks, theirs.layers, strict=True):
        for name, weight in zip("qkv", mine.attention.qkv.weight.chunk(3), strict=True):
            getattr(layer.self_attn, f"{name}_proj").weight.copy_(weight)
        for ours, other in (
            (mine.attention.out, layer.self_attn.o_proj),
            (mine.norm1, layer.input_layernorm),
            (mine.norm2, layer.post_attention_layernorm),
            (mine.mlp.gate, layer.mlp.gate_proj),
            (mine.mlp.up, layer.mlp.up_proj),
            (mine.mlp.down, layer.mlp.down_proj),
        ):
            other.load_state_dict(ours.state_dict())
    tokens = make_tokens()
    encoded = encoder(tokens)
    expected = theirs(tokens[:, : max(LENGTHS)]).last_hidden_state
    torch.testing.assert_close(encoded.features, expected, atol=1e-5, rtol=1e-5)


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
        (
            {"pooling": "appended", "memory_width": 8},
            "memory_width: expected None for 'appended' pooling, got 8",
        ),
    ],
)
def test_mistakes_in_a_config(fields, message):
    with pytest.raises(ValueError, match=message):
        TextEncoderConfig(**fields)

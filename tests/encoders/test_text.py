"""The text encoder against PyTorch's own transformer on all the padding."""

import pytest
import torch
from torch import nn

from multimodal.encoders import TextEncoder, TextEncoderConfig

EOS, VOCAB, WIDTH, HEADS, LAYERS, CONTEXT = 9, 30, 24, 3, 2, 12
LENGTHS = [3, 8, 5, 2]


def make(**fields) -> TextEncoder:
    torch.manual_seed(0)
    encoder = TextEncoder(TextEncoderConfig(VOCAB, CONTEXT, WIDTH, LAYERS, HEADS, eos_id=EOS, **fields))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return encoder.eval()


def make_tokens(lengths=LENGTHS, columns=CONTEXT) -> torch.Tensor:
    tokens = torch.randint(10, VOCAB, (len(lengths), columns), generator=torch.Generator().manual_seed(1))
    for row, length in enumerate(lengths):
        tokens[row, length - 1] = EOS
        tokens[row, length:] = 0
    return tokens


def reference(encoder: TextEncoder, tokens: torch.Tensor, lengths: list[int]) -> list[torch.Tensor]:
    """Each text by itself, without padding, through nn.TransformerEncoderLayer -> features [L, W] each."""
    layers = []
    for block in encoder.blocks:
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        layer.self_attn.in_proj_weight.data = block.attention.qkv.weight.data
        layer.self_attn.in_proj_bias.data = block.attention.qkv.bias.data
        layer.self_attn.out_proj.load_state_dict(block.attention.out.state_dict())
        layer.linear1.load_state_dict(block.mlp[0].state_dict())
        layer.linear2.load_state_dict(block.mlp[2].state_dict())
        layer.norm1.load_state_dict(block.norm1.state_dict())
        layer.norm2.load_state_dict(block.norm2.state_dict())
        layers.append(layer)
    features = []
    for row, length in enumerate(lengths):
        x = encoder.embedding.weight[tokens[row, :length]] + encoder.positions[:length]
        mask = nn.Transformer.generate_square_subsequent_mask(length) if encoder.config.causal else None
        for layer in layers:
            x = layer(x[None], src_mask=mask)[0]
        features.append(encoder.norm(x))
    return features


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pooling", ["eos", "cls", "mean"])
def test_equals_each_text_by_itself(causal, pooling):
    encoder, tokens = make(causal=causal, pooling=pooling), make_tokens()
    encoded = encoder(tokens)
    assert encoded.features.shape == (4, max(LENGTHS), WIDTH)  # only up to the longest text
    expected = reference(encoder, tokens, LENGTHS)
    for row, length in enumerate(LENGTHS):
        features = expected[row]
        torch.testing.assert_close(encoded.features[row, :length], features, atol=1e-5, rtol=1e-5)
        pooled = {"eos": features[-1], "cls": features[0], "mean": features.mean(0)}[pooling]
        torch.testing.assert_close(encoded.pooled[row], pooled, atol=1e-5, rtol=1e-5)
        assert encoded.padding_mask[row].tolist() == [i < length for i in range(max(LENGTHS))]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("pooling", ["eos", "cls", "mean"])
def test_more_padding_other_padding_or_a_longer_neighbour_changes_nothing(causal, pooling):
    encoder, tokens = make(causal=causal, pooling=pooling), make_tokens()
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


def test_a_padding_mask_says_where_a_text_without_eos_ends():
    encoder, tokens = make(causal=False, pooling="mean"), make_tokens()
    mask = torch.zeros(4, CONTEXT, dtype=torch.bool)
    lengths = [2, 6, 1, 4]
    for row, length in enumerate(lengths):
        mask[row, :length] = True
    encoded = encoder(tokens, mask)
    for row, features in enumerate(reference(encoder, tokens, lengths)):
        torch.testing.assert_close(encoded.pooled[row], features.mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_where_the_gradient_of_a_position_goes(causal):
    encoder = make(causal=causal)
    embedded = []
    encoder.embedding.register_forward_hook(lambda module, args, output: embedded.append(output))
    features = encoder(make_tokens([8])).features  # [1, 8, W]
    for position in range(8):
        [gradient] = torch.autograd.grad(features[0, position].pow(2).sum(), embedded[0], retain_graph=True)
        reached = gradient[0].abs().sum(-1) > 0
        assert reached.tolist() == [not causal or i <= position for i in range(8)]


@torch.no_grad()
def test_an_appended_token_sees_what_open_clips_does():
    """Its mask is one place off, which its weights have learned to live with."""
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
    for row, length in enumerate(lengths):  # before the last norm, as its decoder takes them
        torch.testing.assert_close(
            encoded.features[row, :length], features[row, :length], atol=1e-5, rtol=1e-5
        )
    assert encoded.padding_mask.sum(1).tolist() == lengths
    for row in range(4):  # alone, on fewer columns, a text gives the same
        alone = encoder(tokens[row : row + 1]).pooled[0]
        torch.testing.assert_close(alone, expected[row], atol=1e-5, rtol=1e-5)


def test_no_text_gives_no_rows():
    encoded = make()(torch.zeros(0, CONTEXT, dtype=torch.long))
    assert encoded.pooled.shape == (0, WIDTH)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="expected at most 12 a text, got 13"):
        make()(torch.zeros(1, CONTEXT + 1, dtype=torch.long))
    with pytest.raises(ValueError, match=r"expected one of .*'mean'.*, got 'max'"):
        TextEncoderConfig(pooling="max")

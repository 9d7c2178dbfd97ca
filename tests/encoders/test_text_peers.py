"""The text encoder compared with open_clip and transformers."""

import torch

from tests.layers.peers import copy_to_llama, copy_to_t5

from .tiny import CONTEXT, HEADS, LAYERS, LENGTHS, VOCAB, WIDTH, make, make_tokens


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
    copy_to_t5(encoder, theirs.encoder)
    lengths = [60, 33, 5, 2]  # beyond the distances that have a bucket each
    tokens = make_tokens(lengths, 60)
    encoded = encoder(tokens)
    expected = theirs(tokens, encoded.mask.long()).last_hidden_state
    torch.testing.assert_close(encoded.features[encoded.mask], expected[encoded.mask], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rotary_positions_equal_llamas():
    from transformers import LlamaConfig, LlamaModel

    encoder = make(positions="rotary", norm="rms", mlp="gated", activation="silu", bias=False, eps=1e-6, mlp_ratio=2.5)
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
    copy_to_llama(encoder.blocks, theirs.layers)
    tokens = make_tokens()
    encoded = encoder(tokens)
    expected = theirs(tokens[:, : max(LENGTHS)]).last_hidden_state
    torch.testing.assert_close(encoded.features, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_appended_token_equals_open_clips():
    """open_clip's mask is shifted by one place, and its weights were trained with it."""
    from open_clip.transformer import TextTransformer

    encoder = make(pooling="appended")
    theirs = TextTransformer(CONTEXT, VOCAB, WIDTH, HEADS, LAYERS, embed_cls=True, output_tokens=True, proj_type="none")
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
        torch.testing.assert_close(encoded.features[row, :length], features[row, :length], atol=1e-5, rtol=1e-5)
    assert encoded.mask.sum(1).tolist() == lengths
    for row in range(4):  # alone, with fewer columns
        alone = encoder(tokens[row : row + 1]).pooled[0]
        torch.testing.assert_close(alone, expected[row], atol=1e-5, rtol=1e-5)

"""A text decoder that continues a text encoder, compared with open_clip's CoCa."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from multimodal.decoders import TextDecoder, TextDecoderConfig
from multimodal.encoders import TextEncoder, TextEncoderConfig
from multimodal.layers import Encoded

from .tiny import CONTEXT, HEADS, POSITIONS, VOCABULARY, WIDTH, make_memory, make_tokens

TRUNK = TextEncoderConfig(vocab_size=VOCABULARY, context_length=CONTEXT, width=WIDTH, layers=1, heads=HEADS)
COCA = TextDecoderConfig(
    vocab_size=VOCABULARY,
    context_length=CONTEXT,
    width=WIDTH,
    layers=2,
    heads=HEADS,
    memory_width=WIDTH,
    tie_embeddings=False,
    cross_attention="after_block",
)


def make_coca(**fields) -> tuple[TextDecoder, TextEncoder]:
    """A decoder whose first block belongs to a text encoder, followed by two of open_clip's pairs."""
    torch.manual_seed(0)
    text = TextEncoder(replace(TRUNK, **fields))
    decoder = TextDecoder(replace(COCA, **fields), text)
    for parameter in {*decoder.parameters(), *text.parameters()}:
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
    return decoder.eval(), text.eval()


@torch.no_grad()
def test_a_trunk_and_cross_attention_after_blocks_equal_open_clips_coca():
    from open_clip.transformer import MultimodalTransformer

    decoder, text = make_coca()
    theirs = MultimodalTransformer(WIDTH, 2, HEADS, CONTEXT, output_dim=VOCABULARY)
    for i, (block, cross) in enumerate(zip(theirs.resblocks, theirs.cross_attn, strict=True)):
        own, attending = decoder.blocks[1 + 2 * i], decoder.blocks[2 + 2 * i]
        assert (own.cross, attending.attention) == (None, None)
        block.attn.in_proj_weight.copy_(own.attention.qkv.weight)
        block.attn.in_proj_bias.copy_(own.attention.qkv.bias)
        block.attn.out_proj.load_state_dict(own.attention.out.state_dict())
        block.ln_1.load_state_dict(own.norm1.state_dict())
        cross.attn.in_proj_weight.copy_(torch.cat([attending.cross.q.weight, attending.cross.kv.weight]))
        cross.attn.in_proj_bias.copy_(torch.cat([attending.cross.q.bias, attending.cross.kv.bias]))
        cross.attn.out_proj.load_state_dict(attending.cross.out.state_dict())
        cross.ln_1.load_state_dict(attending.norm_cross.state_dict())
        cross.ln_1_kv.load_state_dict(attending.cross.norm_memory.state_dict())
        for ours, other in ((own, block), (attending, cross)):
            other.ln_2.load_state_dict(ours.norm2.state_dict())
            other.mlp.c_fc.load_state_dict(ours.mlp[0].state_dict())
            other.mlp.c_proj.load_state_dict(ours.mlp[2].state_dict())
    theirs.ln_final.load_state_dict(decoder.norm.state_dict())
    theirs.text_projection.copy_(decoder.head.weight.T)

    tokens, features = make_tokens(), torch.randn(3, 5, WIDTH)
    x = text.blocks[0](text.embedding(tokens) + text.positions, causal=True)
    expected = theirs.eval()(features, x)
    memory = decoder.project_memory(Encoded(features, features[:, 0]))
    torch.testing.assert_close(decoder(tokens, memory).logits, expected, atol=1e-4, rtol=1e-4)
    cache = decoder.new_cache()
    got = [decoder(piece, memory, cache).logits for piece in tokens.split([4, 1, 3, 1, 1, 1, 1], 1)]
    torch.testing.assert_close(torch.cat(got, 1), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm_order", ["pre", "post"])
@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_a_trunk_is_shared_and_runs_first(positions, norm_order):
    decoder, text = make_coca(positions=positions, norm_order=norm_order)
    assert decoder.embedding_norm is text.embedding_norm
    assert decoder.blocks[0] is text.blocks[0]
    assert decoder.embedding is text.embedding
    assert decoder.positions is text.positions
    assert decoder.relative is text.relative
    assert len(decoder.blocks) == 1 + 2 * 2  # the config counts the decoder's own layers
    assert decoder.project_memory(make_memory()._replace(features=torch.randn(3, 5, WIDTH))).layers[0] is None

    after_trunk = []
    decoder.blocks[1].register_forward_pre_hook(lambda module, inputs: after_trunk.append(inputs[0]))
    tokens, features = make_tokens(), torch.randn(3, 5, WIDTH)
    decoder(tokens, decoder.project_memory(Encoded(features, features[:, 0])))
    text.norm = nn.Identity()
    torch.testing.assert_close(after_trunk[0], text(tokens, torch.ones_like(tokens, dtype=torch.bool)).features)


@pytest.mark.parametrize(("field", "value"), [("vocab_size", 60), ("width", 16), ("positions", "rotary")])
def test_a_trunk_that_does_not_match_is_refused(field, value):
    expected = getattr(TRUNK, field)
    with pytest.raises(ValueError, match=f"{field}: expected {expected!r}, the text encoder's, got {value!r}"):
        TextDecoder(replace(COCA, **{field: value}), TextEncoder(TRUNK))


def test_a_tied_head_shares_the_embedding_of_the_trunk():
    text = TextEncoder(TRUNK)
    decoder = TextDecoder(replace(COCA, tie_embeddings=True), text)
    assert decoder.head.weight is text.embedding.weight

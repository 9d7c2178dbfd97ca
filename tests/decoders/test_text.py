"""The decoder with its cache beside the decoder without, and its attention beside PyTorch's."""

import pytest
import torch
from torch import nn

from multimodal.decoders import TextDecoder, TextDecoderConfig
from multimodal.encoders import TextEncoder, TextEncoderConfig
from multimodal.layers.block import CrossAttention
from multimodal.layers.features import Encoded

VOCABULARY, CONTEXT, WIDTH, MEMORY_WIDTH = 50, 12, 32, 24


def make_decoder(memory_width: int | None = MEMORY_WIDTH, tie_embeddings: bool = True) -> TextDecoder:
    torch.manual_seed(0)
    decoder = TextDecoder(
        TextDecoderConfig(
            VOCABULARY,
            CONTEXT,
            WIDTH,
            layers=3,
            heads=4,
            memory_width=memory_width,
            tie_embeddings=tie_embeddings,
        )
    )
    for parameter in decoder.parameters():  # spread, so that every path through the network counts
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
    return decoder.eval()


def make_memory(rows: int = 3, padded: bool = True) -> Encoded:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(rows, 5, MEMORY_WIDTH, generator=generator)
    mask = torch.arange(5) < torch.tensor([5, 2, 4])[:rows, None] if padded else None
    return Encoded(features, features[:, 0], mask)


def make_tokens(rows: int = 3, length: int = CONTEXT) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(2))


MEMORIES = {"no memory": None, "memory": make_memory(padded=False), "padded memory": make_memory()}


@pytest.fixture(params=MEMORIES.values(), ids=MEMORIES.keys())
def memory(request) -> Encoded | None:
    return request.param


@pytest.mark.parametrize("pieces", [[4, *[1] * 8], [1] * 12, [4, 3, 5], [12], [1, 11]], ids=str)
@torch.no_grad()
def test_cached_logits_are_the_uncached_ones(memory, pieces):
    decoder = make_decoder(None if memory is None else MEMORY_WIDTH)
    tokens = make_tokens()
    expected = decoder(tokens, memory)
    cache = decoder.new_cache(memory)
    got = torch.cat([decoder(piece, cache=cache) for piece in tokens.split(pieces, 1)], 1)
    assert cache.length == CONTEXT
    assert (got - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.no_grad()
def test_rows_move_and_leave_with_the_cache(memory):
    decoder = make_decoder(None if memory is None else MEMORY_WIDTH)
    tokens, rows = make_tokens(), torch.tensor([2, 0, 2, 1, 1])
    cache = decoder.new_cache(memory)
    decoder(tokens[:, :4], cache=cache)
    cache.select(rows)
    moved = [decoder(tokens[rows, i : i + 1], cache=cache) for i in range(4, 7)]
    remaining = torch.tensor([4, 1])
    cache.select(remaining)
    last = decoder(tokens[rows][remaining, 7:8], cache=cache)

    expected = decoder(tokens, memory)[rows]
    tolerance = 1e-5 * expected.abs().max()
    assert (torch.cat(moved, 1) - expected[:, 4:7]).abs().max() < tolerance
    assert (last - expected[remaining, 7:8]).abs().max() < tolerance


def test_no_gradient_reaches_later_tokens():
    decoder, memory, tokens = make_decoder(), make_memory(), make_tokens(rows=1)
    embedded = []
    decoder.embedding.register_forward_hook(lambda module, inputs, output: embedded.append(output))
    for position in range(CONTEXT):
        (gradient,) = torch.autograd.grad(
            decoder(tokens, Encoded(memory.features[:1], memory.pooled[:1]))[0, position].square().sum(),
            embedded[-1],
        )
        reached = gradient[0].abs().amax(1)  # [L]
        assert (reached[: position + 1] > 0).all()
        assert (reached[position + 1 :] == 0).all()


@torch.no_grad()
def test_padding_of_the_memory_is_not_seen():
    decoder, memory, tokens = make_decoder(), make_memory(), make_tokens()
    noise = torch.randn_like(memory.features) * ~memory.padding_mask[..., None]
    assert torch.equal(
        decoder(tokens, memory), decoder(tokens, memory._replace(features=memory.features + noise))
    )
    for row in range(3):
        short = memory.features[row : row + 1, : int(memory.padding_mask[row].sum())]
        alone = decoder(tokens[row : row + 1], Encoded(short, short[:, 0]))
        torch.testing.assert_close(decoder(tokens, memory)[row : row + 1], alone, atol=1e-4, rtol=1e-4)
    unmasked = decoder(tokens, memory._replace(padding_mask=None))
    assert (unmasked - decoder(tokens, memory))[1].abs().max() > 1e-2


@torch.no_grad()
def test_cross_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours = CrossAttention(WIDTH, heads=4, memory_width=MEMORY_WIDTH)
    theirs = nn.MultiheadAttention(WIDTH, 4, kdim=MEMORY_WIDTH, vdim=MEMORY_WIDTH, batch_first=True)
    key, value = ours.kv.weight.chunk(2)
    theirs.load_state_dict(
        {
            "q_proj_weight": ours.q.weight,
            "k_proj_weight": key,
            "v_proj_weight": value,
            "in_proj_bias": torch.cat([ours.q.bias, ours.kv.bias]),
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    x, memory = torch.randn(3, 7, WIDTH), make_memory()
    real = memory.padding_mask
    expected, _ = theirs(x, memory.features, memory.features, key_padding_mask=~real)
    got = ours(x, ours.keys_values(memory.features), real[:, None, None])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_a_tied_head_is_the_embedding():
    tied, untied = make_decoder(), make_decoder(tie_embeddings=False)
    assert tied.head.weight is tied.embedding.weight
    assert untied.head.weight is not untied.embedding.weight
    extra = sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters())
    assert extra == VOCABULARY * WIDTH

    states = []
    tied.norm.register_forward_hook(lambda module, inputs, output: states.append(output))
    logits = tied(make_tokens(), make_memory())
    torch.testing.assert_close(logits, states[0] @ tied.embedding.weight.T)


def make_coca() -> tuple[TextDecoder, TextEncoder]:
    """A decoder whose first block is that of a text encoder, followed by two of open_clip's pairs."""
    torch.manual_seed(0)
    text = TextEncoder(TextEncoderConfig(VOCABULARY, CONTEXT, WIDTH, layers=1, heads=4))
    config = TextDecoderConfig(
        VOCABULARY,
        CONTEXT,
        WIDTH,
        layers=2,
        heads=4,
        memory_width=WIDTH,
        tie_embeddings=False,
        shared_layers=1,
        memory_blocks=True,
    )
    decoder = TextDecoder(config)
    decoder.share(text.embedding, text.positions, text.blocks)
    for parameter in {*decoder.parameters(), *text.parameters()}:
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
    return decoder.eval(), text


@torch.no_grad()
def test_shared_layers_and_memory_blocks_are_open_clips():
    from open_clip.transformer import MultimodalTransformer

    decoder, text = make_coca()
    assert decoder.blocks[0] is text.blocks[0]
    assert decoder.embedding is text.embedding
    theirs = MultimodalTransformer(WIDTH, 2, 4, CONTEXT, output_dim=VOCABULARY)
    for i, (block, cross) in enumerate(zip(theirs.resblocks, theirs.cross_attn, strict=True)):
        mine, looking = decoder.blocks[1 + 2 * i], decoder.blocks[2 + 2 * i]
        assert (mine.cross, looking.attention) == (None, None)
        block.attn.in_proj_weight.copy_(mine.attention.qkv.weight)
        block.attn.in_proj_bias.copy_(mine.attention.qkv.bias)
        block.attn.out_proj.load_state_dict(mine.attention.out.state_dict())
        block.ln_1.load_state_dict(mine.norm1.state_dict())
        cross.attn.in_proj_weight.copy_(torch.cat([looking.cross.q.weight, looking.cross.kv.weight]))
        cross.attn.in_proj_bias.copy_(torch.cat([looking.cross.q.bias, looking.cross.kv.bias]))
        cross.attn.out_proj.load_state_dict(looking.cross.out.state_dict())
        cross.ln_1.load_state_dict(looking.norm_cross.state_dict())
        cross.ln_1_kv.load_state_dict(looking.norm_memory.state_dict())
        for ours, other in ((mine, block), (looking, cross)):
            other.ln_2.load_state_dict(ours.norm2.state_dict())
            other.mlp.c_fc.load_state_dict(ours.mlp[0].state_dict())
            other.mlp.c_proj.load_state_dict(ours.mlp[2].state_dict())
    theirs.ln_final.load_state_dict(decoder.norm.state_dict())
    theirs.text_projection.copy_(decoder.head.weight.T)

    tokens, features = make_tokens(), torch.randn(3, 5, WIDTH)
    x = text.blocks[0](text.embedding(tokens) + text.positions, causal=True)
    expected, memory = theirs.eval()(features, x), Encoded(features, features[:, 0])
    torch.testing.assert_close(decoder(tokens, memory), expected, atol=1e-4, rtol=1e-4)
    cache = decoder.new_cache(memory)
    got = torch.cat([decoder(piece, cache=cache) for piece in tokens.split([4, 1, 3, 1, 1, 1, 1], 1)], 1)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_as_many_layers_are_shared_as_there_are():
    decoder, text = make_coca()
    with pytest.raises(ValueError, match="shared_layers: expected 2, those of the text encoder, got 1"):
        decoder.share(text.embedding, text.positions, nn.ModuleList([text.blocks[0]] * 2))


def test_what_it_refuses():
    decoder, plain, memory = make_decoder(), make_decoder(memory_width=None), make_memory()
    with pytest.raises(ValueError, match=r"expected at most 12 in all, got 13"):
        decoder(make_tokens(length=13), memory)
    cache = decoder.new_cache(memory)
    decoder(make_tokens(), cache=cache)
    with pytest.raises(ValueError, match=r"expected at most 12 in all, got 13"):
        decoder(make_tokens(length=1), cache=cache)
    with pytest.raises(ValueError, match=r"memory: expected one, got none"):
        decoder(make_tokens())
    with pytest.raises(ValueError, match=r"memory: expected none, got one"):
        plain(make_tokens(), memory)

"""The text decoder step by step compared with one full pass."""

import pytest
import torch

from multimodal.decoders import DECODERS, TextDecoderConfig
from multimodal.encoders import TextEncoder, TextEncoderConfig
from multimodal.layers import Encoded

from .tiny import (
    CONTEXT,
    HEADS,
    LAYERS,
    MEMORY_WIDTH,
    MODERN,
    POSITIONS,
    VOCABULARY,
    WIDTH,
    assert_near,
    make_decoder,
    make_memory,
    make_tokens,
    project,
)

MEMORIES = {"no memory": None, "memory": make_memory(padded=False), "padded memory": make_memory()}


@pytest.fixture(params=MEMORIES.values(), ids=MEMORIES.keys())
def memory(request) -> Encoded | None:
    return request.param


@pytest.mark.parametrize("modern", [False, True], ids=["layer norm and plain MLP", "RMS norm and gated MLP"])
@pytest.mark.parametrize("norm_order", ["pre", "post"])
@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_steps_equal_the_full_pass(memory, positions, norm_order, modern):
    fields = {"positions": positions, "norm_order": norm_order} | (MODERN if modern else {})
    decoder = make_decoder(None if memory is None else MEMORY_WIDTH, **fields)
    tokens, projected = make_tokens(), project(decoder, memory)
    expected = decoder(tokens, projected)
    assert expected.logits.shape == (3, CONTEXT, VOCABULARY)
    assert expected.hidden.shape == (3, CONTEXT, WIDTH)
    for pieces in ([4, *[1] * 8], [1] * 12, [4, 3, 5], [12], [1, 11]):
        cache = decoder.new_cache()
        got = [decoder(piece, projected, cache) for piece in tokens.split(pieces, 1)]
        assert cache.length == CONTEXT
        assert_near(torch.cat([each.logits for each in got], 1), expected.logits)
        assert_near(torch.cat([each.hidden for each in got], 1), expected.hidden)


@pytest.mark.parametrize(
    "fields",
    [
        {"cross_attention": "after_block"},
        {"cross_attention": "after_block", "positions": "relative", **MODERN},
        {"attention_scale": 1.0},
        {"head": "bert", "tie_embeddings": False},
        {"layers": 1, "positions": "rotary"},
    ],
    ids=str,
)
@torch.no_grad()
def test_steps_equal_the_full_pass_with_other_settings(memory, fields):
    decoder = make_decoder(None if memory is None else MEMORY_WIDTH, **fields)
    tokens, projected = make_tokens(), project(decoder, memory)
    cache = decoder.new_cache()
    got = [decoder(piece, projected, cache).logits for piece in tokens.split([3, *[1] * 9], 1)]
    assert_near(torch.cat(got, 1), decoder(tokens, projected).logits)


@pytest.mark.parametrize("norm_order", ["pre", "post"])
@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_without_a_memory_it_equals_a_causal_text_encoder(positions, norm_order):
    decoder = make_decoder(None, positions=positions, norm_order=norm_order)
    config = TextEncoderConfig(
        vocab_size=VOCABULARY,
        context_length=CONTEXT,
        width=WIDTH,
        layers=LAYERS,
        heads=HEADS,
        positions=positions,
        norm_order=norm_order,
    )
    encoder = TextEncoder(config).eval()
    encoder.load_state_dict({k: v for k, v in decoder.state_dict().items() if not k.startswith("head")})
    tokens = make_tokens()
    assert_near(encoder(tokens).features, decoder(tokens).hidden)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_steps_in_bfloat16(positions, autocast):
    decoder, tokens, memory = make_decoder(positions=positions), make_tokens(), make_memory()
    expected = decoder(tokens, decoder.project_memory(memory)).logits
    if not autocast:
        decoder, memory = decoder.bfloat16(), memory._replace(features=memory.features.bfloat16())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        projected, cache = decoder.project_memory(memory), decoder.new_cache()
        got = torch.cat([decoder(piece, projected, cache).logits for piece in tokens.split(1, 1)], 1)
    assert_near(got.float(), expected, tolerance=0.05)


@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_rows_are_reordered_with_the_cache(memory, positions):
    decoder = make_decoder(None if memory is None else MEMORY_WIDTH, positions=positions)
    tokens, rows = make_tokens(), torch.tensor([2, 0, 2, 1, 1])
    projected, cache = project(decoder, memory), decoder.new_cache()
    decoder(tokens[:, :4], projected, cache)
    cache.reorder(rows)
    projected = None if memory is None else projected.select(rows)
    moved = [decoder(tokens[rows, i : i + 1], projected, cache).logits for i in range(4, 7)]
    remaining = torch.tensor([4, 1])
    cache.reorder(remaining)
    projected = None if memory is None else projected.select(remaining)
    last = decoder(tokens[rows][remaining, 7:8], projected, cache).logits

    expected = decoder(tokens, project(decoder, memory)).logits[rows]
    assert_near(torch.cat(moved, 1), expected[:, 4:7])
    assert_near(last, expected[remaining, 7:8])


@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_a_truncated_cache_continues_with_other_tokens(positions):
    decoder = make_decoder(None, positions=positions)
    tokens = make_tokens()
    other = torch.cat([tokens[:, :5], tokens[:, 5:].roll(1, 0)], 1)
    cache = decoder.new_cache()
    decoder(tokens, cache=cache)
    cache.truncate(5)
    got = [decoder(piece, cache=cache).logits for piece in other[:, 5:].split([2, 1, 4], 1)]
    assert_near(torch.cat(got, 1), decoder(other).logits[:, 5:])


@pytest.mark.parametrize("times", [1, 2, 4])
@torch.no_grad()
def test_sequences_that_share_a_memory_equal_copies_of_the_memory(times):
    """A memory of B rows serves B * K sequences, K following each other."""
    decoder, tokens = make_decoder(), make_tokens(3 * times)
    memory = decoder.project_memory(make_memory())
    expected = decoder(tokens, memory.select(torch.arange(3).repeat_interleave(times))).logits
    assert_near(decoder(tokens, memory).logits, expected)
    cache = decoder.new_cache()
    got = [decoder(piece, memory, cache).logits for piece in tokens.split([3, *[1] * 9], 1)]
    assert_near(torch.cat(got, 1), expected)


@torch.no_grad()
def test_a_batch_of_no_rows():
    decoder = make_decoder()
    memory = decoder.project_memory(make_memory()).select(torch.zeros(0, dtype=torch.long))
    assert decoder(make_tokens(0), memory).logits.shape == (0, CONTEXT, VOCABULARY)


@pytest.mark.parametrize("positions", POSITIONS)
def test_no_gradient_reaches_later_tokens(positions):
    decoder, encoded, tokens = make_decoder(positions=positions), make_memory(1), make_tokens(rows=1)
    memory = decoder.project_memory(encoded)
    embedded = []
    decoder.embedding.register_forward_hook(lambda module, inputs, output: embedded.append(output))
    logits = decoder(tokens, memory).logits
    for position in range(CONTEXT):
        [gradient] = torch.autograd.grad(logits[0, position].square().sum(), embedded[-1], retain_graph=True)
        reached = gradient[0].abs().amax(1)  # [L]
        assert (reached[: position + 1] > 0).all()
        assert (reached[position + 1 :] == 0).all()


@torch.no_grad()
def test_padding_of_the_memory_changes_nothing():
    decoder, memory, tokens = make_decoder(), make_memory(), make_tokens()
    expected = decoder(tokens, decoder.project_memory(memory)).logits
    noise = torch.randn_like(memory.features) * ~memory.mask[..., None]
    noisy = decoder.project_memory(memory._replace(features=memory.features + noise))
    assert torch.equal(decoder(tokens, noisy).logits, expected)
    for row in range(3):
        short = memory.features[row : row + 1, : int(memory.mask[row].sum())]
        alone = decoder(tokens[row : row + 1], decoder.project_memory(Encoded(short, short[:, 0])))
        torch.testing.assert_close(expected[row : row + 1], alone.logits, atol=1e-4, rtol=1e-4)
    unmasked = decoder(tokens, decoder.project_memory(memory._replace(mask=None))).logits
    assert (unmasked - expected)[1].abs().max() > 1e-2


@pytest.mark.parametrize("head", ["linear", "bert"])
def test_a_tied_head_shares_the_embedding(head):
    tied, untied = make_decoder(head=head), make_decoder(head=head, tie_embeddings=False)

    def weight(decoder):
        return decoder.head.weight if head == "linear" else decoder.head.linear.weight

    assert weight(tied) is tied.embedding.weight
    assert weight(untied) is not untied.embedding.weight
    extra = sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in tied.parameters())
    assert extra == VOCABULARY * WIDTH

    decoded = tied(make_tokens(), tied.project_memory(make_memory()))
    if head == "linear":
        torch.testing.assert_close(decoded.logits, decoded.hidden @ tied.embedding.weight.T)
    torch.testing.assert_close(decoded.logits, tied.head(decoded.hidden))


def test_every_kind_round_trips():
    configs = {"text": TextDecoderConfig(vocab_size=VOCABULARY, positions="rotary", bos_id=3, **MODERN)}
    assert sorted(configs) == DECODERS.names()
    for kind, config in configs.items():
        table = DECODERS.to_dict(config)
        assert table["kind"] == kind
        assert DECODERS.from_dict(table) == config


def test_inputs_that_do_not_match_the_config():
    decoder, plain = make_decoder(), make_decoder(memory_width=None)
    memory = decoder.project_memory(make_memory())
    with pytest.raises(ValueError, match=r"expected at most 12 in all, got 13"):
        decoder(make_tokens(length=13), memory)
    cache = decoder.new_cache()
    decoder(make_tokens(), memory, cache)
    with pytest.raises(ValueError, match=r"expected at most 12 in all, got 13"):
        decoder(make_tokens(length=1), memory, cache)
    with pytest.raises(ValueError, match=r"memory: expected one \(memory_width 24\), got none"):
        decoder(make_tokens())
    with pytest.raises(ValueError, match=r"memory: expected none \(memory_width None\), got one"):
        plain(make_tokens(), memory)
    with pytest.raises(ValueError, match=r"memory: expected a sequence of features .*, got only a pooled"):
        decoder.project_memory(Encoded(None, torch.randn(3, MEMORY_WIDTH)))
    with pytest.raises(ValueError, match="cache: expected at most 4 tokens, got 5"):
        decoder(make_tokens(length=5), memory, decoder.new_cache(4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positions": "absolute"}, "positions: expected one of .*, got 'absolute'"),
        ({"cross_attention": "before"}, "cross_attention: expected one of .*'after_block'.*, got 'before'"),
        ({"heads": 5}, "width: expected a multiple of 5 heads, got 512"),
    ],
)
def test_mistakes_in_a_config(fields, message):
    with pytest.raises(ValueError, match=message):
        TextDecoderConfig(**fields)

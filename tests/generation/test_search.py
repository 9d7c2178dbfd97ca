"""Greedy and beam search compared with loops over lists, and with trying every possible sentence.

The model is a table: the logits of the next token are random numbers seeded by all tokens so far, so a cache
that mixes up rows, or a hypothesis that loses its history, changes the answer.
"""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.decoders import TextDecoder, TextDecoderConfig
from multimodal.generation import Beam, Greedy
from multimodal.layers import Encoded

EOS, PAD = 1, 0


class History:
    """A cache of the tokens fed so far, [B, n]."""

    def __init__(self):
        self.tokens = None

    def feed(self, tokens):
        self.tokens = tokens if self.tokens is None else torch.cat([self.tokens, tokens], 1)

    def reorder(self, rows):
        self.tokens = self.tokens[rows]

    def truncate(self, length):
        self.tokens = self.tokens[:, :length]


class Table:
    """step(tokens [B, n], cache) -> (logits [B, n, V], hidden), with logits that depend on the whole history."""

    def __init__(self, vocab_size, seed, sharpness=2.0):
        self.vocab_size, self.seed, self.sharpness = vocab_size, seed, sharpness
        self.known = {}

    def logits(self, history):
        history = tuple(history)
        if history not in self.known:
            seed = self.seed
            for token in history:
                seed = (seed * 1_000_003 + token + 1) % (2**61 - 1)
            generator = torch.Generator().manual_seed(seed)
            self.known[history] = self.sharpness * torch.randn(self.vocab_size, generator=generator)
        return self.known[history]

    def log_probability(self, history, token):
        return float(self.logits(history).log_softmax(-1)[token])

    def __call__(self, tokens, cache):
        cache.feed(tokens)
        rows = cache.tokens.tolist()
        start = cache.tokens.shape[1] - tokens.shape[1]
        logits = torch.stack(
            [torch.stack([self.logits(row[: end + 1]) for end in range(start, len(row))]) for row in rows]
        )
        return logits, logits[..., :0]


def run(table, prompts, strategy):
    found = strategy(table, History(), torch.tensor(prompts), EOS, PAD)
    return [cut(row) for row in found.tokens.tolist()], found.scores.tolist(), found.tokens


def cut(row):
    """The tokens up to EOS, which is included."""
    return row[: row.index(EOS) + 1] if EOS in row else row


def mean_log_probability(table, prompt, tokens):
    total = sum(table.log_probability([*prompt, *tokens[:i]], token) for i, token in enumerate(tokens))
    return total / len(tokens)


def greedy_by_hand(table, prompt, longest):
    tokens = []
    while len(tokens) < longest and EOS not in tokens:
        tokens.append(int(table.logits([*prompt, *tokens]).argmax()))
    return tokens


def beam_by_hand(table, prompt, longest, beams, penalty):
    """(score, tokens) of the best, hypotheses in lists."""
    living, pool = [(0.0, [])], []
    for length in range(1, longest + 1):
        grown = sorted(
            (
                (total + table.log_probability([*prompt, *tokens], token), [*tokens, token])
                for total, tokens in living
                for token in range(table.vocab_size)
            ),
            reverse=True,
        )
        pool += [(total / length**penalty, tokens) for total, tokens in grown[:beams] if tokens[-1] == EOS]
        pool = sorted(pool, reverse=True)[:beams]
        living = [item for item in grown if item[1][-1] != EOS][:beams]
        if len(pool) == beams and pool[-1][0] >= living[0][0] / length**penalty:
            return pool[0]
    return max(pool + [(total / longest**penalty, tokens) for total, tokens in living])


def every_sentence(vocab_size, longest):
    others = [token for token in range(vocab_size) if token != EOS]
    for length in range(longest):
        for body in itertools.product(others, repeat=length):
            yield [*body, EOS]
    for body in itertools.product(others, repeat=longest):
        yield list(body)


TABLES = st.builds(Table, st.integers(3, 12), st.integers(0, 10**6), st.sampled_from([0.3, 1.0, 3.0]))  # flat to sharp
PENALTIES = st.sampled_from([-0.5, 0.0, 0.6, 1.0, 2.0])


@settings(max_examples=100, deadline=None)
@given(table=TABLES, rows=st.integers(1, 4), longest=st.integers(1, 7))
def test_greedy_takes_the_likeliest_token_each_time(table, rows, longest):
    prompts = [[2, row % table.vocab_size, row] for row in range(rows)]
    found, scores, tokens = run(table, prompts, Greedy(longest))
    assert found == [greedy_by_hand(table, prompt, longest) for prompt in prompts]
    for prompt, sentence, score, row in zip(prompts, found, scores, tokens.tolist(), strict=True):
        assert score == pytest.approx(mean_log_probability(table, prompt, sentence), abs=1e-5)
        assert row[len(sentence) :] == [PAD] * (longest - len(sentence))


@settings(max_examples=150, deadline=None)
@given(table=TABLES, rows=st.integers(1, 4), longest=st.integers(1, 7), beams=st.integers(1, 5), penalty=PENALTIES)
def test_beam_search_equals_a_loop_over_lists(table, rows, longest, beams, penalty):
    prompts = [[2, row] for row in range(rows)]
    found, scores, tokens = run(table, prompts, Beam(beams, penalty, longest))
    for prompt, sentence, score, row in zip(prompts, found, scores, tokens.tolist(), strict=True):
        expected, best = beam_by_hand(table, prompt, longest, beams, penalty)
        assert sentence == best
        assert score == pytest.approx(mean_log_probability(table, prompt, best), abs=1e-5)
        assert score * len(best) == pytest.approx(expected * len(best) ** penalty, rel=1e-5)
        assert row[len(sentence) :] == [PAD] * (longest - len(sentence))


@pytest.mark.parametrize("penalty", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(20))
def test_enough_beams_find_the_best_sentence_of_all(seed, penalty):
    table, longest = Table(4, seed), 4
    [found], [score], _ = run(table, [[2]], Beam(4**longest, penalty, longest))
    sentences = list(every_sentence(4, longest))
    assert len(sentences) == 1 + 3 + 9 + 27 + 81
    best = max(
        sentences, key=lambda sentence: mean_log_probability(table, [2], sentence) * len(sentence) ** (1 - penalty)
    )
    assert found == best
    assert score == pytest.approx(mean_log_probability(table, [2], best), abs=1e-5)


def test_beam_search_finds_a_sentence_that_greedy_misses():
    """Worked by hand: the likelier first token leads to a poor second one."""
    table = Table(4, 0)
    for history, probabilities in {
        (2,): [1e-9, 1e-9, 0.6, 0.4],
        (2, 2): [0.3, 0.4, 0.3, 1e-9],
        (2, 3): [1e-9, 1.0, 1e-9, 1e-9],
    }.items():
        table.known[history] = torch.tensor(probabilities).log()
    greedy, greedy_score, _ = run(table, [[2]], Greedy(2))
    beam, beam_score, _ = run(table, [[2]], Beam(2, max_new_tokens=2))
    assert (greedy, beam) == ([[2, 1]], [[3, 1]])
    assert greedy_score == pytest.approx([math.log(0.6 * 0.4) / 2], abs=1e-5)
    assert beam_score == pytest.approx([math.log(0.4) / 2], abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(table=TABLES, longest=st.integers(1, 7), penalty=PENALTIES)
def test_one_beam_is_greedy(table, longest, penalty):
    prompts = [[2, 0], [2, 1]]
    found, scores, _ = run(table, prompts, Beam(1, penalty, longest))
    expected, greedy_scores, _ = run(table, prompts, Greedy(longest))
    assert found == expected
    assert scores == pytest.approx(greedy_scores, abs=1e-5)


def test_the_default_length_penalty_is_one():
    table = Table(9, 5, sharpness=0.7)
    prompts = [[2, row] for row in range(6)]
    assert run(table, prompts, Beam(3, None, 6))[0] == run(table, prompts, Beam(3, 1.0, 6))[0]
    assert run(table, prompts, Beam(3, None, 6))[0] != run(table, prompts, Beam(3, -2.0, 6))[0]


@pytest.mark.parametrize("strategy", [Greedy(6), Beam(3, max_new_tokens=6)], ids=str)
def test_a_sentence_does_not_depend_on_its_neighbours(strategy):
    table = Table(9, 5, sharpness=0.7)
    prompts = [[2, row] for row in range(6)]
    together, scores, _ = run(table, prompts, strategy)
    alone = [run(table, [prompt], strategy) for prompt in prompts]
    assert together == [tokens for [tokens], _, _ in alone]
    assert scores == pytest.approx([score for _, [score], _ in alone])
    assert len({len(sentence) for sentence in together}) > 1  # they end at different lengths


def test_generation_stops_when_all_rows_have_ended():
    calls = []

    def step(tokens, cache):
        calls.append(tokens.tolist())
        cache.feed(tokens)
        likely = EOS if cache.tokens.shape[1] == 4 else 3
        logits = torch.nn.functional.one_hot(torch.tensor(likely), 5).float().expand(*tokens.shape, 5)
        return logits, logits

    found = Greedy(50)(step, History(), torch.tensor([[2, 2], [2, 4]]), EOS, PAD)
    assert [cut(row) for row in found.tokens.tolist()] == [[3, 3, EOS], [3, 3, EOS]]
    assert found.tokens.shape == (2, 50)
    assert calls == [[[2, 2], [2, 4]], [[3], [3]], [[3], [3]]]


@pytest.mark.parametrize("memory_width", [None, 6])
@pytest.mark.parametrize("strategy", [Greedy(7), Beam(3, 0.5, 7), Beam(4, max_new_tokens=7)], ids=str)
@torch.no_grad()
def test_a_decoder_with_its_cache_equals_full_passes(strategy, memory_width):
    """All beams of an input share its row of the memory."""
    torch.manual_seed(0)
    config = TextDecoderConfig(vocab_size=12, context_length=10, width=16, layers=2, heads=2, memory_width=memory_width)
    decoder = TextDecoder(config).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.4)
    memory, prompt = None, torch.tensor([[2, 3], [2, 4], [5, 6]])
    if memory_width is not None:
        features = torch.randn(3, 5, memory_width)
        mask = torch.arange(5) < torch.tensor([5, 2, 3])[:, None]
        memory = decoder.project_memory(Encoded(features, features[:, 0], mask))

    def full_pass(tokens, history):
        history.feed(tokens)
        decoded = decoder(history.tokens, memory)
        return decoded.logits[:, -tokens.shape[1] :], decoded.hidden

    def step(tokens, cache):
        return decoder(tokens, memory, cache)

    expected = strategy(full_pass, History(), prompt, EOS, PAD)
    found = strategy(step, decoder.new_cache(), prompt, EOS, PAD)
    assert torch.equal(found.tokens, expected.tokens)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-4)
    assert len({tuple(row) for row in found.tokens.tolist()}) > 1


@pytest.mark.parametrize("strategy", [Greedy(4), Beam(3, max_new_tokens=4)], ids=str)
def test_a_prompt_of_no_rows(strategy):
    found = strategy(Table(5, 0), History(), torch.zeros(0, 3, dtype=torch.long), EOS, PAD)
    assert (len(found.tokens), len(found.scores)) == (0, 0)

"""Greedy and beam search beside loops over lists, and beside trying every sentence there is.

The model is a table: the logits of the next token are random numbers seeded by all tokens so far, so a cache
that mixes up rows, or a hypothesis that loses its history, changes the answer.
"""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.generation import generate

EOS, PAD = 1, 0


class History:
    """A cache of the tokens fed so far, [B, n]."""

    def __init__(self):
        self.tokens = None

    def feed(self, tokens):
        self.tokens = tokens if self.tokens is None else torch.cat([self.tokens, tokens], 1)

    def select(self, rows):
        self.tokens = self.tokens[rows]


class Table:
    """step(tokens [B, n], cache) -> [B, n, V], with logits that depend on the whole history."""

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
        return torch.stack(
            [torch.stack([self.logits(row[: end + 1]) for end in range(start, len(row))]) for row in rows]
        )


def run(table, prompts, **arguments):
    prompt = torch.tensor(prompts)
    found = generate(table, History(), prompt, eos_id=EOS, pad_id=PAD, **arguments)
    return [cut(row) for row in found.tokens.tolist()], found.scores.tolist(), found.tokens


def cut(row):
    """Tokens up to and with EOS."""
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


TABLES = st.builds(
    Table, st.integers(3, 12), st.integers(0, 10**6), st.sampled_from([0.3, 1.0, 3.0])
)  # flat to sharp
PENALTIES = st.sampled_from([-0.5, 0.0, 0.6, 1.0, 2.0])


@settings(max_examples=100, deadline=None)
@given(table=TABLES, rows=st.integers(1, 4), longest=st.integers(1, 7))
def test_greedy_takes_the_likeliest_token_again_and_again(table, rows, longest):
    prompts = [[2, row % table.vocab_size, row] for row in range(rows)]
    found, scores, tokens = run(table, prompts, max_new_tokens=longest)
    assert found == [greedy_by_hand(table, prompt, longest) for prompt in prompts]
    for prompt, sentence, score, row in zip(prompts, found, scores, tokens.tolist(), strict=True):
        assert score == pytest.approx(mean_log_probability(table, prompt, sentence), abs=1e-5)
        assert row[len(sentence) :] == [PAD] * (longest - len(sentence))


@settings(max_examples=150, deadline=None)
@given(
    table=TABLES,
    rows=st.integers(1, 4),
    longest=st.integers(1, 7),
    beams=st.integers(2, 5),
    penalty=PENALTIES,
)
def test_beam_search_is_that_of_a_loop_over_lists(table, rows, longest, beams, penalty):
    prompts = [[2, row] for row in range(rows)]
    asked = {"max_new_tokens": longest, "num_beams": beams, "length_penalty": penalty}
    found, scores, tokens = run(table, prompts, **asked)
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
    asked = {"max_new_tokens": longest, "num_beams": 4**longest, "length_penalty": penalty}
    [found], [score], _ = run(table, [[2]], **asked)
    sentences = list(every_sentence(4, longest))
    assert len(sentences) == 1 + 3 + 9 + 27 + 81
    best = max(
        sentences,
        key=lambda sentence: mean_log_probability(table, [2], sentence) * len(sentence) ** (1 - penalty),
    )
    assert found == best
    assert score == pytest.approx(mean_log_probability(table, [2], best), abs=1e-5)


def test_beams_find_what_greed_misses():
    """Worked by hand: the likelier first token leads to a poor second one."""
    table = Table(4, 0)
    for history, probabilities in {
        (2,): [1e-9, 1e-9, 0.6, 0.4],
        (2, 2): [0.3, 0.4, 0.3, 1e-9],
        (2, 3): [1e-9, 1.0, 1e-9, 1e-9],
    }.items():
        table.known[history] = torch.tensor(probabilities).log()
    greedy, greedy_score, _ = run(table, [[2]], max_new_tokens=2)
    beam, beam_score, _ = run(table, [[2]], max_new_tokens=2, num_beams=2)
    assert (greedy, beam) == ([[2, 1]], [[3, 1]])
    assert greedy_score == pytest.approx([math.log(0.6 * 0.4) / 2], abs=1e-5)
    assert beam_score == pytest.approx([math.log(0.4) / 2], abs=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_sentence_does_not_depend_on_its_neighbours(beams):
    table = Table(9, 5, sharpness=0.7)
    prompts = [[2, row] for row in range(6)]
    together, scores, _ = run(table, prompts, max_new_tokens=6, num_beams=beams)
    alone = [run(table, [prompt], max_new_tokens=6, num_beams=beams) for prompt in prompts]
    assert together == [tokens for [tokens], _, _ in alone]
    assert scores == pytest.approx([score for _, [score], _ in alone])
    assert len({len(sentence) for sentence in together}) > 1  # they end at different lengths


def test_generation_stops_when_all_have_ended():
    calls = []

    def step(tokens, cache):
        calls.append(tokens.tolist())
        cache.feed(tokens)
        likely = EOS if cache.tokens.shape[1] == 4 else 3
        return torch.nn.functional.one_hot(torch.tensor(likely), 5).float().expand(*tokens.shape, 5)

    found = generate(
        step, History(), torch.tensor([[2, 2], [2, 4]]), eos_id=EOS, pad_id=PAD, max_new_tokens=50
    )
    assert [cut(row) for row in found.tokens.tolist()] == [[3, 3, EOS], [3, 3, EOS]]
    assert calls == [[[2, 2], [2, 4]], [[3], [3]], [[3], [3]]]


def test_nothing_to_continue_and_wrong_numbers():
    found = generate(
        Table(5, 0), History(), torch.zeros(0, 3, dtype=torch.long), eos_id=EOS, pad_id=PAD, max_new_tokens=4
    )
    assert (len(found.tokens), len(found.scores)) == (0, 0)
    for name in ("max_new_tokens", "num_beams"):
        with pytest.raises(ValueError, match=f"{name}: expected at least 1, got 0"):
            run(Table(5, 0), [[2]], **{"max_new_tokens": 3, name: 0})

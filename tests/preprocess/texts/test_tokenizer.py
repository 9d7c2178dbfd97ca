"""CLIP's tokenizer against open_clip, and properties of the one that is trained."""

import json
import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.preprocess import BPETokenizer, ClipTokenizer, load_tokenizer, save_tokenizer

TEXTS = [
    "A dog runs on the beach.",
    "two dogs run",
    "a man and a dog",
    "the Beach at night",
    "ein Löwe, 狮子 🦁",
] * 3
LONG = "a very long text about nothing at all " * 20


@pytest.fixture(scope="module")
def bpe() -> BPETokenizer:
    return BPETokenizer.train(TEXTS, vocab_size=300, context_length=64)


@pytest.fixture(scope="module")
def clip() -> ClipTokenizer:
    return ClipTokenizer()


def test_clip_ids_are_those_of_open_clip(clip):
    import open_clip

    texts = [
        *TEXTS,
        "",
        "  spaces \n and\ttabs ",
        "it's 5 o'clock &amp; sunny",
        "ÀÉÎ ﬁ ½",
        "<b>tags</b>",
        "!!!",
    ]
    assert torch.equal(clip(texts), open_clip.tokenize(texts))


def test_clip_cuts_as_open_clip_does_and_says_so(clip):
    import open_clip

    before = clip.truncated
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than 75 tokens, first: 'a very long"):
        tokens = clip(["short", LONG])
    assert torch.equal(tokens, open_clip.tokenize(["short", LONG]))
    assert clip.truncated == before + 1


@pytest.mark.parametrize("length", [32, 72, 76])
def test_clip_of_other_lengths(length):
    """Those of PE-Core and CoCa."""
    import open_clip

    assert torch.equal(ClipTokenizer(length)(TEXTS), open_clip.tokenize(TEXTS, length))


def test_clip_decodes_what_it_encodes(clip):
    assert clip.decode(clip("A dog, running on the beach !")[0]) == "a dog , running on the beach !"


ORDINARY = st.characters(
    categories=["Ll", "Lo", "Nd", "Zs", "Sm", "So", "Po"],  # without case to fold
    exclude_characters="\u32ff\U0001f16c🯰🯱🯲🯳🯴🯵🯶🯷🯸🯹",  # which the library's NFKC does not know yet
)


@given(st.text(ORDINARY, max_size=14))
def test_bpe_gives_back_any_text(bpe, text):
    expected = " ".join(unicodedata.normalize("NFKC", text).lower().split())
    tokens = bpe(text)[0]
    if (tokens == bpe.pad_id).any():  # otherwise it may have been cut
        assert bpe.decode(tokens) == expected


@pytest.mark.parametrize("text", ["<bos>", "<|endoftext|>", "[PAD]", "</s>", "<end_of_text>", "\x00\x01\x02"])
def test_no_text_spells_a_special_id(bpe, text):
    [ids] = bpe.encode_batch([text])
    assert min(ids) >= BPETokenizer.SPECIAL
    assert bpe(text)[0].tolist() == [bpe.bos_id, *ids, bpe.eos_id] + [bpe.pad_id] * (62 - len(ids))


def test_bpe_lowers_the_case(bpe):
    assert torch.equal(bpe("A DOG"), bpe("a dog"))
    assert bpe.decode(bpe("Two  DOGS\nRun")[0]) == "two dogs run"


def test_long_text_is_cut_with_a_count_or_refused(bpe):
    before = bpe.truncated
    with pytest.warns(UserWarning, match="2 of 3 texts are longer than 62 tokens"):
        tokens = bpe([LONG, "short", LONG])
    assert tokens.shape == (3, 64)
    assert tokens[:, -1].tolist() == [bpe.eos_id, bpe.pad_id, bpe.eos_id]
    assert bpe.truncated == before + 2
    with pytest.raises(ValueError, match="expected at most 62 tokens each, got more: 1 of 1"):
        bpe(LONG, on_long="error")
    with pytest.raises(ValueError, match=r"on_long: expected one of .*, got 'drop'"):
        bpe("a", on_long="drop")


@pytest.mark.parametrize(
    ("texts", "message"), [([1], "expected strings, got int"), (["\ud800"], "valid Unicode")]
)
def test_what_is_not_text_is_refused(bpe, texts, message):
    with pytest.raises(ValueError, match=message):
        bpe(texts)


def test_no_texts_are_an_empty_batch(bpe):
    assert bpe([]).shape == (0, 64)


def test_training_is_repeatable(bpe):
    again = BPETokenizer.train(TEXTS, vocab_size=300, context_length=64)
    assert (again.definition, again.fingerprint) == (bpe.definition, bpe.fingerprint)
    assert bpe.vocab_size == 300
    other = BPETokenizer.train(TEXTS, vocab_size=290, context_length=64)
    assert other.fingerprint != bpe.fingerprint
    with pytest.raises(ValueError, match="expected at least 259, for all bytes, got 100"):
        BPETokenizer.train(TEXTS, vocab_size=100)


@pytest.mark.parametrize("name", ["bpe", "clip"])
def test_saved_and_loaded(name, request, tmp_path):
    tokenizer = request.getfixturevalue(name)
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(json.loads(json.dumps(tokenizer.to_dict())), tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert torch.equal(loaded(TEXTS), tokenizer(TEXTS))


def test_a_folder_that_contradicts_itself_is_refused(bpe, tmp_path):
    config = bpe.to_dict()
    with pytest.raises(FileNotFoundError, match=r"expected tokenizer\.json"):
        load_tokenizer(config, tmp_path)
    save_tokenizer(bpe, tmp_path)
    for change, message in (
        ({"kind": "pickle"}, "expected 'bpe', 'clip' or 'hf', got 'pickle'"),
        ({"vocab_size": 299}, "'vocab_size': 299"),
        ({"context_length": "64"}, "tokenizer.context_length: expected int, got '64'"),
        ({"extra": 1}, r"expected keys among .* got \['extra'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            load_tokenizer(config | change, tmp_path)
    (tmp_path / "tokenizer.json").write_text(bpe.definition.replace('"dog"', '"cat"') + " ")
    with pytest.raises(ValueError, match="sha256"):
        load_tokenizer(config, tmp_path)
    for garbage in (b"{", b"\xff\xfe", b'{"model": {"type": "BPE", "vocab": 3}}'):
        (tmp_path / "tokenizer.json").write_bytes(garbage)
        with pytest.raises(ValueError, match=r"tokenizer: expected the JSON|expected UTF-8"):
            load_tokenizer(config, tmp_path)

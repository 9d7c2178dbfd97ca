"""CLIP's tokenizer matches open_clip's; properties of the trained tokenizer."""

import dataclasses
import functools
import json
import unicodedata
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import multimodal
from multimodal.preprocess import (
    PREPROCESSORS,
    BPESettings,
    ClipTokenizer,
    HFTokenizer,
    InputError,
    load_preprocessor,
    save_preprocessor,
)

SMALL = Path(multimodal.__file__).parent / "zoo/small"  # the shipped model
TEXTS = ["A dog runs on the beach.", "two dogs run", "a man and a dog", "the Beach at night", "ein Löwe, 狮子 🦁"] * 3
LONG = "a very long text about nothing at all " * 20


@pytest.fixture(scope="module")
def bpe() -> HFTokenizer:
    return BPESettings(64, 300).train(TEXTS)


@pytest.fixture(scope="module")
def clip() -> ClipTokenizer:
    return ClipTokenizer()


def test_clip_ids_match_open_clip(clip):
    import open_clip

    texts = [*TEXTS, "", "  spaces \n and\ttabs ", "it's 5 o'clock &amp; sunny", "ÀÉÎ ﬁ ½", "<b>tags</b>", "!!!"]
    assert torch.equal(clip(texts), open_clip.tokenize(texts))


def test_clip_truncates_like_open_clip_with_a_warning(clip):
    import open_clip

    with pytest.warns(UserWarning, match="1 of 2 texts are longer than 75 tokens, first: 'a very long"):
        tokens = clip(["short", LONG])
    assert torch.equal(tokens, open_clip.tokenize(["short", LONG]))


@given(st.text(max_size=40))
def test_clip_ids_of_arbitrary_text_match_open_clip(clip, text):
    import open_clip

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* they were truncated")
        assert torch.equal(clip(text), open_clip.tokenize(text))


@pytest.mark.parametrize("length", [32, 72, 76])
def test_clip_with_other_context_lengths(length):
    """The context lengths of PE-Core and CoCa."""
    import open_clip

    assert torch.equal(ClipTokenizer(length)(TEXTS), open_clip.tokenize(TEXTS, length))


def test_clip_round_trip(clip):
    assert clip.decode(clip("A dog, running on the beach !")[0]) == "a dog , running on the beach !"


ORDINARY = st.characters(
    categories=["Ll", "Lo", "Nd", "Zs", "Sm", "So", "Po"],  # without upper case
    exclude_characters="\u32ff\U0001f16c🯰🯱🯲🯳🯴🯵🯶🯷🯸🯹",  # too new for the library's NFKC
)


@given(st.text(ORDINARY, max_size=14))
def test_bpe_round_trip(bpe, text):
    expected = " ".join(unicodedata.normalize("NFKC", text).lower().split())
    tokens = bpe(text)[0]
    if (tokens == bpe.pad_id).any():  # otherwise the text may have been truncated
        assert bpe.decode(tokens) == expected


NAMES = ["<pad>", "<bos>", "<eos>", "<|endoftext|>", "[PAD]", "</s>", "<end_of_text>", "\x00\x01\x02"]


@pytest.mark.parametrize("text", NAMES)
def test_no_text_encodes_to_a_special_id(bpe, text):
    [ids] = bpe.encode_batch([text])
    assert min(ids, default=3) > 2
    assert bpe(text)[0].tolist() == [bpe.bos_id, *ids, bpe.eos_id] + [bpe.pad_id] * (62 - len(ids))


@given(st.lists(st.sampled_from(NAMES[:3]) | st.text(max_size=9), max_size=5).map("".join))
def test_no_arbitrary_text_encodes_to_a_special_id(text):
    """Not even with a tokenizer that was trained on their names."""
    tokenizer = trained_on_the_names()
    assert all(i > 2 for i in tokenizer.encode_batch([text])[0])
    assert tokenizer.decode(tokenizer.encode_batch(["<pad>"])[0]) == "<pad>"


@functools.cache
def trained_on_the_names() -> HFTokenizer:
    return BPESettings(64, 400).train([*NAMES, *TEXTS] * 9)


def test_bpe_decodes_without_special_ids(bpe):
    ids = bpe.encode_batch(["a dog"])[0]
    assert (bpe.pad_id, bpe.bos_id, bpe.eos_id) == (0, 1, 2)
    assert bpe.decode([1, 0, 1, *ids, 0, 0]) == bpe.decode([1, *ids, 2, *ids]) == "a dog"
    assert bpe.decode([1, 2]) == bpe.decode([]) == bpe.decode([0, 0]) == ""


def test_bpe_lower_cases(bpe):
    assert torch.equal(bpe("A DOG"), bpe("a dog"))
    assert bpe.decode(bpe("Two  DOGS\nRun")[0]) == "two dogs run"


def test_long_texts_are_truncated_with_one_warning(bpe):
    with pytest.warns(UserWarning, match="2 of 3 texts are longer than 62 tokens"):
        tokens = bpe([LONG, "short", LONG])
    assert tokens.shape == (3, 64)
    assert tokens[:, -1].tolist() == [bpe.eos_id, bpe.pad_id, bpe.eos_id]


@pytest.mark.parametrize(("texts", "message"), [([1], "expected strings, got int"), (["\ud800"], "valid Unicode")])
def test_inputs_that_are_not_text_are_refused(bpe, texts, message):
    with pytest.raises(InputError, match=message):
        bpe(texts)
    with pytest.raises(InputError, match=message):
        bpe.read(texts[0])


def test_an_empty_list_is_an_empty_batch(bpe):
    assert bpe([]).shape == (0, 64)


def test_read_and_collate_match_a_call(bpe, clip):
    for tokenizer in (bpe, clip):
        rows = [tokenizer.read(text) for text in TEXTS]
        assert rows[0].shape == (tokenizer.context_length,)
        assert torch.equal(tokenizer.collate(rows), tokenizer(TEXTS))


def test_training_is_deterministic(bpe):
    again = BPESettings(64, 300).train(TEXTS)
    assert (again.tokenizer_json, again.fingerprint) == (bpe.tokenizer_json, bpe.fingerprint)
    assert bpe.vocab_size == 300
    other = BPESettings(64, 290).train(TEXTS)
    assert other.fingerprint != bpe.fingerprint
    with pytest.raises(ValueError, match="expected at least 259, for all bytes, got 100"):
        BPESettings(vocab_size=100).train(TEXTS)


@pytest.mark.parametrize("name", ["bpe", "clip"])
def test_save_and_load(name, request, tmp_path):
    tokenizer = request.getfixturevalue(name)
    save_preprocessor(tokenizer, tmp_path)
    loaded = load_preprocessor(json.loads(json.dumps(tokenizer.to_dict())), tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert torch.equal(loaded(TEXTS), tokenizer(TEXTS))


def test_files_that_do_not_match_the_config_are_refused(bpe, tmp_path):
    config = bpe.to_dict()
    with pytest.raises(FileNotFoundError, match=r"expected tokenizer\.json"):
        load_preprocessor(config, tmp_path, "tokenizer")
    save_preprocessor(bpe, tmp_path)
    for change, message in (
        ({"kind": "pickle"}, r"tokenizer\.kind: expected one of \['bpe', 'clip', 'hf', .*\], got 'pickle'"),
        ({"sha256": {}}, "'sha256': {}"),
        ({"context_length": "64"}, "tokenizer.context_length: expected int, got '64'"),
        ({"extra": 1}, r"expected keys among .* got \['extra'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            load_preprocessor(config | change, tmp_path, "tokenizer")
    (tmp_path / "tokenizer.json").write_text(bpe.tokenizer_json.replace('"dog"', '"cat"') + " ")
    with pytest.raises(ValueError, match="sha256"):
        load_preprocessor(config, tmp_path, "tokenizer")
    for garbage in (b"{", b"\xff\xfe", b'{"model": {"type": "BPE", "vocab": 3}}'):
        (tmp_path / "tokenizer.json").write_bytes(garbage)
        with pytest.raises(ValueError, match=r"tokenizer: expected the JSON|expected UTF-8"):
            load_preprocessor(config, tmp_path, "tokenizer")


def test_run_files_may_leave_out_the_hashes(bpe, tmp_path):
    config = PREPROCESSORS.from_dict({"kind": "bpe", "vocab_size": 300, "context_length": 16}, "tokenizer")
    with pytest.raises(FileNotFoundError, match=r"expected tokenizer\.json"):
        PREPROCESSORS.build(config, tmp_path)
    save_preprocessor(bpe, tmp_path)
    built = PREPROCESSORS.build(config, tmp_path)
    assert (built.context_length, built.tokenizer_json) == (16, bpe.tokenizer_json)
    config = PREPROCESSORS.from_dict({"kind": "hf", "context_length": 16, "pad_id": 0}, "tokenizer")
    assert PREPROCESSORS.build(config, tmp_path).tokenizer_json == bpe.tokenizer_json
    with pytest.raises(ValueError, match=r"tokenizer\.sha256: expected \{'tokenizer.json': '0'\}, got"):
        PREPROCESSORS.build(dataclasses.replace(config, sha256={"tokenizer.json": "0"}), tmp_path)


def test_clip_needs_no_files(clip, tmp_path):
    built = PREPROCESSORS.build(PREPROCESSORS.from_dict({"kind": "clip"}), tmp_path)
    assert built.fingerprint == clip.fingerprint
    assert built.files() == {}


@pytest.mark.parametrize(
    ("spaced", "plain"),
    [
        ("a man , smiling , in a hat .", "a man, smiling, in a hat."),
        ("two  dogs\n run .", "two dogs run."),
        ("a dog 's ball", "a dog's ball"),
        ("he does n't run !", "he doesn't run!"),
        ("\ufeffa cat", "a cat"),
        ("a\tcat\x00", "a cat"),
    ],
)
def test_trained_tokenizers_clean_queries_as_they_clean_captions(spaced, plain):
    tokenizer = BPESettings(32, 300).train([spaced, "some more text"])
    assert torch.equal(tokenizer(spaced), tokenizer(plain))
    assert tokenizer.to_dict() == BPESettings(32, 300).train([plain, "some more text"]).to_dict()
    table = json.loads((SMALL / "config.json").read_text())["inputs"]["text"]
    shipped = load_preprocessor(table, SMALL)
    assert torch.equal(shipped(spaced), shipped(plain))


@pytest.mark.parametrize("text", ["می\u200cخواهم", "क्\u200dष", "ශ්\u200dරී", "👨\u200d👩\u200d👧 on a beach", "ك\u200dب"])
def test_joiners_are_tokens(text):
    tokenizer = BPESettings(32, 300).train([text])
    joiner = "\u200c" if "\u200c" in text else "\u200d"
    assert tokenizer.decode(tokenizer(text)[0]) == text
    assert not torch.equal(tokenizer(text), tokenizer(text.replace(joiner, "")))

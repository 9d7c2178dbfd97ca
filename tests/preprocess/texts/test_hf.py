"""Ids, and texts decoded from ids, match transformers and open_clip."""

import dataclasses
import functools
import json
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.preprocess import (
    HFSettings,
    HFTokenizer,
    load_preprocessor,
    lower_cased,
    read_tokenizer_json,
    save_preprocessor,
)

from .peers import ODD, PEERS, SENTENCES, bert, clip_files, saved_peer, sentences, wordpiece

OPEN_CLIP = {  # the tokenizers in open_clip's model configs, with their options there
    "bert": {"strip_sep_token": True},  # CLIPA
    "roberta": {},
    "t5": {"clean": "canonicalize"},  # SigLIP
    "siglip2": {"clean": "canonicalize"},
}
CLIPA = {"bos_id": None, "eos_id": None, "zeroed_id": 3}  # without [SEP] no id ends a text


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """peer(name): transformers' tokenizer, loaded from a folder that it saved, and ours from the same folder."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("peers")

    @functools.cache
    def load(name):
        here = saved_peer(name, folder)
        return AutoTokenizer.from_pretrained(here), HFTokenizer(read_tokenizer_json(here), PEERS[name].settings)

    load.folder = folder
    return load


def changed(tokenizer: HFTokenizer, **changes) -> HFTokenizer:
    return HFTokenizer(tokenizer.tokenizer_json, dataclasses.replace(tokenizer.settings, **changes))


def rows(theirs, texts, length):
    """The ids of transformers."""
    return theirs(texts, max_length=length, padding="max_length", truncation=True, return_tensors="pt").input_ids


def encode_silently(tokenizer, texts):
    """Encode without the warning about long texts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* they were truncated")
        return tokenizer(texts)


@pytest.mark.parametrize("name", PEERS)
def test_ids_match_transformers(name, peer):
    theirs, ours = peer(name)
    texts = sentences()
    long = sum(len(ids) > ours.context_length for ids in theirs(texts).input_ids)
    with pytest.warns(UserWarning, match=f"^{long} of {len(texts)} texts are longer than"):
        found = ours(texts)
    expected = rows(theirs, texts, ours.context_length)
    assert [t for t, a, b in zip(texts, found, expected, strict=True) if not torch.equal(a, b)] == []
    assert ours.vocab_size == len(theirs)


@pytest.mark.parametrize("name", PEERS)
def test_ids_of_arbitrary_text_match_transformers(name, peer):
    theirs, ours = peer(name)

    @settings(max_examples=60)
    @given(st.text(max_size=60))
    def same(text):
        assert torch.equal(encode_silently(ours, text), rows(theirs, [text], ours.context_length))

    same()


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_ids_match_open_clip(name, peer):
    from open_clip.tokenizer import HFTokenizer as Theirs

    options = OPEN_CLIP[name]
    ours = changed(peer(name)[1], clean=options.get("clean", "whitespace"), **(CLIPA if name == "bert" else {}))
    theirs = Theirs(str(peer.folder / name), context_length=ours.context_length, **options)
    texts = sentences()
    expected, found = theirs(texts), encode_silently(ours, texts)
    assert [t for t, a, b in zip(texts, found, expected, strict=True) if not torch.equal(a, b)] == []

    @settings(max_examples=60)
    @given(st.text(max_size=60))
    def same(text):
        assert torch.equal(encode_silently(ours, text), theirs(text))

    same()


def test_siglip2_lower_cases_text_before_the_tokenizer_of_gemma(peer):
    """Gemma's tokenizer.json does not lower-case. transformers' class adds that."""
    theirs, ours = peer("siglip2")
    table = json.loads(ours.tokenizer_json)
    assert table["normalizer"]["type"] == "Sequence"
    table["normalizer"] = table["normalizer"]["normalizers"][1]
    gemma = json.dumps(table)
    texts = [text for text in sentences() if any(c.isupper() for c in text)]
    cased, lowered = (HFTokenizer(each, PEERS["siglip2"].settings) for each in (gemma, lower_cased(gemma)))
    assert torch.equal(encode_silently(lowered, texts), rows(theirs, texts, 64))
    assert not torch.equal(encode_silently(cased, texts), rows(theirs, texts, 64))


@pytest.mark.parametrize("lower_case", [True, False])
def test_bert_from_vocab_txt(lower_case, tmp_path):
    from transformers import BertTokenizer

    tokens = sorted(wordpiece(), key=wordpiece().__getitem__)
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    theirs = BertTokenizer.from_pretrained(tmp_path, do_lower_case=lower_case)
    ours = HFTokenizer(read_tokenizer_json(tmp_path, lower_case), PEERS["bert"].settings)
    assert torch.equal(encode_silently(ours, sentences()), rows(theirs, sentences(), 32))
    assert ours.decode(ours("A dog, isn't it?")[0]) == theirs.decode(ours("A dog, isn't it?")[0], True)


def test_clip_from_vocab_json_and_merges_txt(peer, tmp_path):
    vocab, merges = clip_files()
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    lines = "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges)
    (tmp_path / "merges.txt").write_text(lines, encoding="utf-8")
    theirs, _ = peer("clip")
    ours = HFTokenizer(read_tokenizer_json(tmp_path), PEERS["clip"].settings)
    assert torch.equal(encode_silently(ours, sentences()), rows(theirs, sentences(), 77))
    assert ours.decode(ours("A dog , running !")[0]) == "a dog , running !"


@pytest.mark.parametrize(
    ("name", "clean_up"),
    [
        *((name, False) for name in PEERS),
        ("bert", True),
        ("bert, cased", True),
        ("t5", True),
    ],  # with BPE, transformers does not clean up
)
def test_decoded_texts_match_transformers(name, clean_up, peer):
    theirs, ours = peer(name)
    ours = changed(ours, clean_up_tokenization_spaces=clean_up)
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": clean_up}

    for row in encode_silently(ours, [*SENTENCES, *ODD[:5]]):
        assert ours.decode(row) == theirs.decode(row, **options)
    ordinary = [i for i in range(ours.vocab_size) if i != ours.eos_id]

    @settings(max_examples=60)
    @given(st.lists(st.sampled_from(ordinary), max_size=20))
    def same(ids):
        assert ours.decode(ids) == theirs.decode(ids, **options)
        ends = [*ids, ours.eos_id, *ids]
        assert ours.decode(torch.tensor(ends)) == ours.decode(ids)

    same()


def test_bos_id_outside_the_vocabulary():
    """BLIP's decoder begins with an id that its tokenizer does not have."""
    theirs = bert()
    text = "a dog ' s tail , isn ' t it ? yes ."
    ids = theirs(text, add_special_tokens=False).input_ids
    settings = HFSettings(
        64, pad_id=0, bos_id=len(theirs), eos_id=3, vocab_size=len(theirs) + 2, clean_up_tokenization_spaces=True
    )
    ours = HFTokenizer(theirs.backend_tokenizer.to_str(), settings)
    row = [ours.bos_id, *ids, ours.eos_id, 0, 0]
    expected = theirs.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=True)
    assert ours.decode(row) == expected
    assert ours.vocab_size == len(theirs) + 2


def test_ids_around_a_text(peer):
    for name, prefix, suffix in (("bert", (2,), (3,)), ("roberta", (0,), (2,)), ("t5", (), (1,))):
        _, ours = peer(name)
        assert (ours.prefix, ours.suffix) == (prefix, suffix)
        assert ours("")[0].tolist() == [*prefix, *suffix] + [ours.pad_id] * (
            ours.context_length - len(prefix) - len(suffix)
        )
    nllb = peer("nllb")[1]  # transformers changes the language in its class, not in the file
    other = changed(nllb, prefix=(5, 6), suffix=())
    ids = nllb.encode_batch(["a dog"])[0]
    assert other("a dog")[0].tolist() == [5, 6, *ids] + [0] * (18 - len(ids))


def test_save_and_load(peer, tmp_path):
    for i, (name, changes) in enumerate((("bert", CLIPA), ("t5", {"clean": "siglip"}), ("nllb", {"prefix": (4, 5)}))):
        tokenizer = changed(peer(name)[1], **changes)
        save_preprocessor(tokenizer, tmp_path / str(i))
        table = json.loads(json.dumps(tokenizer.to_dict()))
        loaded = load_preprocessor(table, tmp_path / str(i))
        assert loaded.fingerprint == tokenizer.fingerprint != peer(name)[1].fingerprint
        assert torch.equal(encode_silently(loaded, sentences()), encode_silently(tokenizer, sentences()))


def test_files_that_do_not_match_the_config_are_refused(peer, tmp_path):
    tokenizer = peer("bert")[1]
    config = tokenizer.to_dict()
    with pytest.raises(FileNotFoundError, match=r"expected tokenizer\.json"):
        load_preprocessor(config, tmp_path, "tokenizer")
    save_preprocessor(tokenizer, tmp_path)
    for change, message in (
        ({"pad_id": "0"}, "tokenizer.pad_id: expected int, got '0'"),
        ({"prefix": 7}, "tokenizer.prefix: expected a list, got 7"),
        ({"clean": "scrub"}, "clean: expected one of .*'canonicalize'.* got 'scrub'"),
        ({"extra": 1}, r"expected keys among .* got \['extra'\]"),
        ({"vocab_size": 3}, "expected ids of 0 to 2, got 3"),
        ({"vocab_size": 10**6, "sha256": {}}, "sha256"),
        ({"context_length": 2}, "context_length: expected at least 3, for a token and the ids around a text, got 2"),
    ):
        with pytest.raises(ValueError, match=message):
            load_preprocessor(config | change, tmp_path, "tokenizer")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pad_id": -1}, "expected ids of 0 to .*, got -1"),
        ({"bos_id": 10**6}, "expected ids of 0 to .*, got 1000000"),
        ({"suffix": (10**6,)}, "expected ids of 0 to .*, got 1000000"),
        ({"clean": ""}, "clean: expected one of .* got ''"),
    ],
)
def test_invalid_settings_are_refused(change, message, peer):
    with pytest.raises(ValueError, match=message):
        changed(peer("bert")[1], **change)


def test_ids_beyond_the_vocab_size_are_refused(peer):
    ours = peer("bert")[1]
    small = changed(ours, vocab_size=ours("[UNK]")[0, 1] + 3)
    assert torch.equal(small("[UNK]"), ours("[UNK]"))
    with pytest.raises(ValueError, match="expected ids of 0 to 3, got"):
        small("a dog")


def test_damaged_files_are_refused(peer, tmp_path):
    whole = peer("bert")[1].tokenizer_json
    good = PEERS["bert"].settings
    for damaged in ("", "{", "[]", "{}", "null", whole[:-9], whole.replace('"WordPiece"', '"Magic"')):
        with pytest.raises(ValueError, match="tokenizer: expected the JSON of `tokenizers`, got"):
            HFTokenizer(damaged, good)
    with pytest.raises(ValueError, match="expected at most 67108864 bytes of JSON, got"):
        HFTokenizer(whole + " " * 2**26, good)
    silent = json.loads(whole)
    silent["model"] = {"type": "BPE", "vocab": {}, "merges": []}
    silent["added_tokens"] = []
    with pytest.raises(ValueError, match="expected a token for 'a', got none"):
        HFTokenizer(json.dumps(silent), good)
    language = json.loads(peer("nllb")[1].tokenizer_json)
    language["post_processor"]["single"][0]["SpecialToken"]["id"] = "fra_Latn"  # causes a panic in Rust
    with pytest.raises(ValueError, match="expected ids around any text, got"):
        HFTokenizer(json.dumps(language), PEERS["nllb"].settings)
    unknown = json.loads(whole)
    unknown["model"]["unk_token"] = "[NONE]"
    with pytest.raises(ValueError, match="expected ids for any text, got"):
        HFTokenizer(json.dumps(unknown), good)("狗狗 ʘ")


def test_damaged_or_missing_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected tokenizer\.json, vocab\.txt, or vocab\.json with"):
        read_tokenizer_json(tmp_path)
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(ValueError, match=r"tokenizer\.json: expected at most 67108864 bytes, got 67108865"):
        read_tokenizer_json(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"tokenizer\.json: expected UTF-8"):
        read_tokenizer_json(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    for vocab, message in (
        ("{", r"expected a vocab\.json with .* and the merges\.txt of CLIP, got"),
        ('{"a": 0, "b": 1, "ab": 2}', r"got '<\|startoftext\|>'"),
        ('{"a": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}', "got .*b"),
    ):
        (tmp_path / "vocab.json").write_text(vocab)
        with pytest.raises(ValueError, match=message):
            read_tokenizer_json(tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\na\n")
    with pytest.raises(ValueError, match=r"vocab\.txt: expected .*, got none of \['\[SEP\]'\]"):
        read_tokenizer_json(tmp_path)

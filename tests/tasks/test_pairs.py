"""Matching, answering and reranking against plain loops over one image and one text at a time."""

import json
import math
from dataclasses import replace

import pytest
import torch

from multimodal.decoders import TextDecoderConfig
from multimodal.encoders import ImageEncoderConfig, TextEncoderConfig
from multimodal.generation import Beam, Greedy
from multimodal.model import Model
from multimodal.models import BlipAnswererConfig, BlipMatcherConfig, build_model
from multimodal.preprocess import BPESettings, ImageError, ImageTransform, open_image
from multimodal.results import Answer, Match, Results

TEXTS = ["a photo of a cat.", "two red squares on green grass", "the quick brown fox", "no", "a", "fox?"]


def make(kind, name="tiny"):
    tokenizer = BPESettings(48, 300).train(TEXTS)
    size = {"width": 32, "layers": 2, "heads": 2}
    tokens = {"vocab_size": tokenizer.vocab_size, "context_length": 48, "norm_order": "post"}
    text = TextEncoderConfig(causal=False, pooling="cls", eos_id=tokenizer.eos_id, **tokens, **size)
    encoders = {"image": ImageEncoderConfig(image_size=32, patch_size=16, **size), "text": text}
    decoder = TextDecoderConfig(head="bert", **tokens, **size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "matcher":
            network = build_model(BlipMatcherConfig(encoders=encoders, embed_dim=16))
        else:
            defaults = {"max_new_tokens": 20}
            network = build_model(BlipAnswererConfig(encoders=encoders, decoder=decoder, generation=defaults))
        for parameter in network.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    transform = ImageTransform(32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return Model(network.requires_grad_(False), {"image": transform, "text": tokenizer}, name=name)


@pytest.fixture(scope="module")
def matcher():
    return make("matcher")


@pytest.fixture(scope="module")
def answerer():
    return make("answerer")


def matched_by_hand(model, path, text):
    tokens = model.tokenizer(text)
    tokens = tokens[:, : tokens[0].tolist().index(model.tokenizer.eos_id) + 1]
    image = model.transform(open_image(path))[None]
    return float(model.network.match({"image": image, "text": tokens})[0].softmax(0)[1])


def answered_by_hand(model, path, question, longest):
    network, tokenizer = model.network, model.tokenizer
    tokens, total = [tokenizer.bos_id], 0.0
    image = model.transform(open_image(path))[None]
    memory = network.memory({"image": image, "text": tokenizer(question)})
    while len(tokens) - 1 < longest:
        value, token = network.decoder(torch.tensor([tokens]), memory).logits[0, -1].log_softmax(-1).max(-1)
        tokens.append(int(token))
        total += float(value)
        if token == tokenizer.eos_id:
            break
    return tokenizer.decode(tokens[1:]), total / (len(tokens) - 1)


def paths(photos):
    return sorted(photos.rglob("*.png"))


@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_matches_are_those_of_a_loop(matcher, photos, batch_size):
    found = matcher.match(photos, TEXTS, batch_size=batch_size)
    assert isinstance(found, Results)
    expected = [matched_by_hand(matcher, path, text) for path, text in zip(paths(photos), TEXTS, strict=True)]
    assert [match.score for match in found] == pytest.approx(expected, abs=1e-5)
    assert [match.text for match in found] == TEXTS
    assert [match.item.name for match in found] == [str(path) for path in paths(photos)]
    assert max(expected) - min(expected) > 0.05


def test_images_and_texts_are_paired(matcher, photos):
    first = paths(photos)[0]
    one = matcher.match(first, TEXTS[0])
    assert isinstance(one, Match)
    assert one.score == pytest.approx(matched_by_hand(matcher, first, TEXTS[0]), abs=1e-5)
    assert one.image.size == (40, 48)

    many_texts = matcher.match(first, TEXTS, batch_size=2)
    expected = [matched_by_hand(matcher, first, text) for text in TEXTS]
    assert [match.score for match in many_texts] == pytest.approx(expected, abs=1e-5)
    assert {match.item.name for match in many_texts} == {str(first)}

    many_images = matcher.match(photos, TEXTS[1])
    expected = [matched_by_hand(matcher, path, TEXTS[1]) for path in paths(photos)]
    assert [match.score for match in many_images] == pytest.approx(expected, abs=1e-5)

    assert len(matcher.match([first], TEXTS[0])) == len(matcher.match(first, [TEXTS[0]])) == 1
    assert matcher.match([], TEXTS[0]) == []


def test_unequal_numbers_are_refused(matcher, answerer, photos):
    for ask in (matcher.match, answerer.answer):
        with pytest.raises(ValueError, match="expected one, or one for each of 6 images, got 2"):
            ask(photos, TEXTS[:2])
        with pytest.raises(ValueError, match="expected one, or one for each of 1 images, got 0"):
            ask(paths(photos)[0], [])
        with pytest.raises(ValueError, match="texts: expected a str or a list of them, got int"):
            ask(photos, 3)
        with pytest.raises(ValueError, match="texts: expected strings, got int"):
            ask(paths(photos)[0], ["a", 3])
        with pytest.raises(ValueError, match="batch_size: expected a whole number"):
            ask(photos, "a", batch_size=0)


@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_answers_are_those_of_a_loop(answerer, photos, batch_size):
    found = answerer.answer(photos, TEXTS, batch_size=batch_size)
    for answer, path, question in zip(found, paths(photos), TEXTS, strict=True):
        text, score = answered_by_hand(answerer, path, question, 20)
        assert (answer.text, answer.question, answer.item.name) == (text, question, str(path))
        assert answer.score == pytest.approx(score, abs=1e-4)
    assert len({answer.text for answer in found}) > 1


def test_how_long_answers_are(answerer, photos):
    """The default of the network, and otherwise as many tokens as fit."""
    path = paths(photos)[0]
    for usual, asked, longest in ((20, None, 20), (20, 3, 3), (None, None, 47), (99, None, 47)):
        answerer.network.defaults = {} if usual is None else {"max_new_tokens": usual}
        expected, _ = answered_by_hand(answerer, path, "no", longest)
        assert answerer.answer(path, "no", Greedy(max_new_tokens=asked)).text == expected
    answerer.network.defaults = {"max_new_tokens": 20}
    with pytest.raises(ValueError, match="max_new_tokens: expected at most 47, got 48"):
        answerer.answer(path, "no", Greedy(max_new_tokens=48))


def test_beams_find_likelier_answers(answerer, photos):
    greedy, beams = (answerer.answer(photos, "a fox?", strategy) for strategy in (Greedy(), Beam(num_beams=4)))
    assert max(b.score - g.score for b, g in zip(beams, greedy, strict=True)) > 0
    alone = [answerer.answer(path, "a fox?", Beam(num_beams=4)).text for path in paths(photos)]
    assert alone == [answer.text for answer in beams]


def test_results_show_themselves(matcher, answerer, photos):
    match = matcher.match(photos / "0.png", "a <cat>")
    answer = answerer.answer(photos / "0.png", "a <cat>?")
    assert isinstance(answer, Answer)
    assert str(match) == f"{photos / '0.png'}: {match.score:.1%} a <cat>"
    assert str(answer) == f"{photos / '0.png'}: a <cat>? {answer.text}"
    name = str(photos / "0.png")
    assert match.to_dict() == {"image": name, "text": "a <cat>", "score": match.score}
    expected = {"image": name, "question": "a <cat>?", "text": answer.text, "score": answer.score}
    assert json.loads(json.dumps(answer.to_dict())) == expected
    for result in (match, answer):
        page = result._repr_html_()
        assert "&lt;cat&gt;" in page
        assert "<cat>" not in page
        assert page.count('<img src="data:image/jpeg;base64,') == 1
        assert page.count("<div") == page.count("</div>")
    found = matcher.match(photos, "a")
    assert str(found).count("\n") == 5
    assert found._repr_html_().count("<img") == 6


def test_unreadable_images(matcher, answerer, photos):
    """Each text stays with its image if one between them is skipped."""
    (photos / "1.png").write_bytes(b"")
    kept = [i for i in range(6) if i != 1]
    for model, ask in ((matcher, matcher.match), (answerer, answerer.answer)):
        with pytest.warns(UserWarning, match="1 of 6 images could not be used"):
            found = ask(photos, TEXTS, batch_size=2)
        assert [rejected.name for rejected in found.rejected] == [str(photos / "1.png")]
        assert [result.item.name for result in found] == [str(paths(photos)[i]) for i in kept]
        asked = [result.text if model is matcher else result.question for result in found]
        assert asked == [TEXTS[i] for i in kept]
        with pytest.raises(ImageError, match=r"1\.png"):
            ask(paths(photos), TEXTS)


def test_models_that_cannot(matcher, answerer, make_model, photos):
    towers = make_model(decoder=False, name="towers")
    with pytest.raises(ValueError, match="expected one that can match, got 'towers', which can classify"):
        towers.match(photos, "a")
    with pytest.raises(ValueError, match="expected one that can answer, got 'tiny', which can classify"):
        matcher.answer(photos, "a")
    for call, what in (
        (lambda: answerer.match(photos, "a"), "match"),
        (lambda: answerer.caption(photos), "caption"),
        (lambda: answerer.classify(photos, ["a", "b"]), "classify"),
        (lambda: answerer.embed_images(photos), "search"),
        (lambda: answerer.embed_texts("a"), "search"),
        (lambda: answerer.index(photos, photos.parent / "photos.db"), "search"),
    ):
        with pytest.raises(ValueError, match=f"expected one that can {what}, got 'tiny', which can answer"):
            call()
    assert not (photos.parent / "photos.db").exists()


def test_a_matcher_classifies(matcher, photos):
    names = ["cat", "fox", "green grass"]
    found = matcher.classify(photos, names, templates=["a {}"])
    images, classes = matcher.embed_images(photos), matcher.embed_texts([f"a {name}" for name in names])
    expected = (images @ classes.T * matcher.network.logit_scale.exp()).softmax(-1)
    for result, scores in zip(found, expected.tolist(), strict=True):
        assert [result.scores[name] for name in names] == pytest.approx(scores, abs=1e-5)


@pytest.fixture
def index(matcher, photos, tmp_path):
    with matcher.index(photos, path=tmp_path / "photos.db") as index:
        yield index


def test_reranking(matcher, index, photos):
    """The nearest by cosine, ordered by how well they match, before the others."""
    nearest = index.search(TEXTS[0], k=6)
    cosines = {str(p): float(matcher.similarity(p, TEXTS[0])) for p in paths(photos)}
    assert [hit.path for hit in nearest] == sorted(cosines, key=cosines.__getitem__, reverse=True)
    matches = {str(path): matched_by_hand(matcher, path, TEXTS[0]) for path in paths(photos)}
    for rerank in (1, 4, 6, 99):
        found = index.search(TEXTS[0], k=6, rerank=rerank)
        again = sorted((hit.path for hit in nearest[:rerank]), key=matches.__getitem__, reverse=True)
        assert [hit.path for hit in found] == again + [hit.path for hit in nearest[rerank:]]
        expected = [matches[path] for path in again] + [hit.score for hit in nearest[rerank:]]
        assert [hit.score for hit in found] == pytest.approx(expected, abs=1e-5)
    assert [hit.path for hit in found] != [hit.path for hit in nearest]
    assert [hit.path for hit in index.search(TEXTS[0], k=2, rerank=6)] == [hit.path for hit in found[:2]]
    assert found[0].image.size == (40, 48)


def test_reranking_without_a_deleted_image(index, photos):
    gone = index.search("a", k=1)[0].path
    photos.joinpath(gone).unlink()
    with pytest.warns(UserWarning, match="1 of 4 images could not be used"):
        found = index.search("a", k=6, rerank=4)
    assert len(found) == 5
    assert gone not in {hit.path for hit in found}


def test_reranking_mistakes(index, make_model, photos, tmp_path):
    for bad in (-1, 1.5, True, None):
        with pytest.raises(ValueError, match="rerank: expected a whole number of at least 0, got"):
            index.search("a", rerank=bad)
    with pytest.raises(ValueError, match="rerank: expected a text to match with, got PosixPath"):
        index.search(photos / "0.png", rerank=2)
    with (
        make_model(name="towers").index(photos, path=tmp_path / "other.db") as other,
        pytest.raises(ValueError, match="expected one that can match, got 'towers'"),
    ):
        other.search("a", rerank=2)


def test_another_id_before_a_text_is_another_match(matcher, photos):
    config = replace(matcher.network.config, matching_id=7)
    other = build_model(config).eval()
    other.load_state_dict(matcher.network.state_dict())
    model = Model(other, matcher.inputs)
    path = paths(photos)[0]
    assert abs(model.match(path, "fox?").score - matcher.match(path, "fox?").score) > 1e-3
    assert torch.equal(model.embed_texts("fox?"), matcher.embed_texts("fox?"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_outputs_that_are_not_finite_name_the_image(photos, value):
    matcher, answerer = make("matcher"), make("answerer")
    for model in (matcher, answerer):
        with torch.no_grad():
            list(model.network.encoders["image"].parameters())[-1].fill_(value)
    for job in (
        lambda: matcher.match(photos / "2.png", "a cat"),
        lambda: matcher.match([photos / "2.png"] * 2, "a cat"),
        lambda: answerer.answer(photos / "2.png", "what?"),
        lambda: answerer.answer(photos / "2.png", "what?", Beam(num_beams=2)),
    ):
        with pytest.raises(ValueError, match=r"2\.png: expected finite outputs of the model"):
            job()

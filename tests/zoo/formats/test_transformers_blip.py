"""BLIP of transformers with random weights, saved by transformers, gives the same results here."""

import pytest
import torch
from safetensors.torch import save_file

import multimodal
from multimodal.generation import Beam, Greedy

from .blip import assert_lively, config, make, written
from .transformers_peers import TEXTS, draw, edit, save

CAPTIONER, MATCHER, ANSWERER = ("BlipForConditionalGeneration", "BlipForImageTextRetrieval", "BlipForQuestionAnswering")
QUESTIONS = ["what is this?", "are the bikes red, or is it a Lion on grass?", "how many dogs?", "Löwe"]


def load(folder, **options):
    return multimodal.load(folder, device="cpu", dtype=torch.float32, **options)


def pixels(processor, images):
    return processor(images, return_tensors="pt")["pixel_values"]


def strategy(num_beams):
    return Greedy() if num_beams == 1 else Beam(num_beams=num_beams)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captioner")
    return *make(CAPTIONER, config(vision_width=128), folder, ends=3.5), load(folder)


@pytest.fixture(scope="module")
def matcher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matcher")
    return *make(MATCHER, config(vision_width=128), folder, gain=1.0), load(folder)


@pytest.fixture(scope="module")
def answerer(tmp_path_factory):
    # In transformers its decoder has keys as wide as the image features for the question: both widths must be equal.
    folder = tmp_path_factory.mktemp("answerer")
    return *make(ANSWERER, config(128, 128), folder, ends=4.0), load(folder)


@torch.no_grad()
def test_captioning_logits(tmp_path):
    peer, _, processor = make(CAPTIONER, config(96, 128), tmp_path, gain=1.0)
    model = load(tmp_path)
    assert model.can == {"caption"}
    images = pixels(processor, list(draw(4)))
    tokens = torch.randint(5, 90, (4, 12), generator=torch.Generator().manual_seed(0))
    expected = peer(images, tokens).logits
    found = model.network.decoder(tokens, model.network.memory({"image": images})).logits
    assert expected.std() > 0.5
    assert (expected[0] - peer(images[1:2], tokens[:1]).logits[0]).abs().max() > 0.05  # the image matters
    assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize("num_beams", [1, 3])
def test_captions(captioner, num_beams):
    """The defaults are the same: at most 20 tokens, greedy; beams with length_penalty=1 and early_stopping=False."""
    peer, tokenizer, processor, model = captioner
    images = list(draw(20))
    rows = written(peer.generate(pixels(processor, images), num_beams=num_beams, max_new_tokens=20))
    assert_lively(rows)
    found = model.caption(images, strategy(num_beams))
    assert [caption.text for caption in found] == tokenizer.batch_decode(rows, skip_special_tokens=True)
    one_by_one = [model.caption(image, strategy(num_beams)).text for image in images[:3]]
    assert one_by_one == [caption.text for caption in found[:3]]


def test_the_default_number_of_tokens_matches_transformers(captioner):
    peer, tokenizer, processor, model = captioner
    images = list(draw(4))
    with pytest.warns(UserWarning, match="model-agnostic default"):
        rows = written(peer.generate(pixels(processor, images)))
    assert 20 in map(len, rows)
    expected = tokenizer.batch_decode(rows, skip_special_tokens=True)
    assert [caption.text for caption in model.caption(images)] == expected
    rows = written(peer.generate(pixels(processor, images), max_new_tokens=40))
    assert max(map(len, rows)) > 20
    expected = tokenizer.batch_decode(rows, skip_special_tokens=True)
    assert [caption.text for caption in model.caption(images, Greedy(max_new_tokens=40))] == expected


@pytest.mark.parametrize("length_penalty", [-2.0, 0.0, 3.0])
def test_length_penalties_mean_the_same(captioner, length_penalty):
    peer, tokenizer, processor, model = captioner
    images = list(draw(20))
    theirs = peer.generate(pixels(processor, images), num_beams=4, length_penalty=length_penalty, max_new_tokens=9)
    expected = tokenizer.batch_decode(written(theirs), skip_special_tokens=True)
    found = model.caption(images, Beam(num_beams=4, length_penalty=length_penalty, max_new_tokens=9))
    assert len(set(expected)) >= 8
    assert [caption.text for caption in found] == expected


def test_early_stopping_is_the_only_difference(captioner):
    """early_stopping=True stops with the first full pool of finished beams; ours continues while one can win."""
    peer, tokenizer, processor, model = captioner
    images = list(draw(20))
    found = [caption.text for caption in model.caption(images, Beam(num_beams=3))]
    same = {}
    for early in (False, True):
        theirs = peer.generate(pixels(processor, images), num_beams=3, early_stopping=early, max_new_tokens=20)
        texts = tokenizer.batch_decode(written(theirs), skip_special_tokens=True)
        same[early] = sum(a == b for a, b in zip(texts, found, strict=True))
    assert same[False] == 20
    assert same[True] < 20


@torch.no_grad()
def test_matching(matcher):
    """The text begins with [CLS]: transformers does not replace it by [ENC]."""
    peer, tokenizer, processor, model = matcher
    assert model.can == {"classify", "search", "match"}
    assert model.network.matching_id is None
    images = list(draw(3))
    tokens = tokenizer(TEXTS, return_tensors="pt", padding=True, return_token_type_ids=False)
    assert tokens["attention_mask"].min() == 0  # texts of different lengths
    expected = peer(pixel_values=pixels(processor, images), **tokens).itm_score  # [3, 2]
    inputs = {"image": pixels(processor, images), "text": model.tokenizer(TEXTS)}
    assert (model.network.match(inputs) - expected).abs().max() < 1e-4
    assert expected.std(0).min() > 0.05
    scores = [match.score for match in model.match(images, TEXTS)]
    assert scores == pytest.approx(expected.softmax(-1)[:, 1].tolist(), abs=1e-4)
    cosines = peer(pixel_values=pixels(processor, images), use_itm_head=False, **tokens).itm_score  # [3, 3]
    assert cosines.std() > 0.02
    assert (model.similarity(images, TEXTS) - cosines).abs().max() < 1e-4


@torch.no_grad()
def test_answering_logits(tmp_path):
    """One question at a time in transformers, all at once here: the decoder of transformers (5.23) drops the mask of
    its memory, so that it attends to the padding of shorter questions."""
    peer, tokenizer, processor = make(ANSWERER, config(128, 128), tmp_path, gain=1.0)
    model = load(tmp_path)
    assert model.can == {"answer"}
    images = pixels(processor, list(draw(4)))
    tokens = torch.randint(5, 90, (4, 6), generator=torch.Generator().manual_seed(0))
    expected = []
    for image, asked, answer in zip(images.split(1), QUESTIONS, tokens.split(1), strict=True):
        question = tokenizer(asked, return_tensors="pt", return_token_type_ids=False)
        seen = peer.vision_model(image).last_hidden_state
        states = peer.text_encoder(**question, encoder_hidden_states=seen).last_hidden_state
        expected.append(peer.text_decoder(answer, encoder_hidden_states=states).logits)
    expected = torch.cat(expected)
    found, other = (
        model.network.decoder(
            tokens, model.network.memory({"image": images, "text": model.tokenizer(questions)})
        ).logits
        for questions in (QUESTIONS, QUESTIONS[::-1])
    )
    assert (other - expected).abs().max() > 0.05  # the question matters
    assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize("num_beams", [1, 3])
def test_answers(answerer, num_beams):
    """One question at a time: in a batch, `generate` of transformers attends to the padding of questions, so that its
    answers depend on the other questions; ours do not."""
    peer, tokenizer, processor, model = answerer
    images = list(draw(20))
    asked = [QUESTIONS[i % len(QUESTIONS)] for i in range(20)]
    rows = []
    for image, question in zip(images, asked, strict=True):
        tokens = tokenizer(question, return_tensors="pt", return_token_type_ids=False)
        theirs = peer.generate(
            pixel_values=pixels(processor, [image]), **tokens, num_beams=num_beams, max_new_tokens=20
        )
        rows += written(theirs)
    assert_lively(rows)
    found = model.answer(images, asked, strategy(num_beams))
    assert [answer.text for answer in found] == tokenizer.batch_decode(rows, skip_special_tokens=True)


def test_the_question_matters(answerer):
    image, model = next(iter(draw(1))), answerer[-1]
    assert len({answer.text for answer in model.answer(image, QUESTIONS)}) > 1


def test_an_older_file(captioner, tmp_path):
    """It may have only the bias of the head, and numbered positions; a head with other weights is refused."""
    peer, tokenizer, processor, model = captioner
    save(tmp_path, peer, tokenizer, processor)
    state = {key: value.clone() for key, value in peer.state_dict().items()}
    for key in ("weight", "bias"):
        state.pop(f"text_decoder.cls.predictions.decoder.{key}")
    state["text_decoder.bert.embeddings.position_ids"] = torch.arange(48)[None]
    save_file(state, tmp_path / "model.safetensors")
    images = list(draw(3))
    found, expected = load(tmp_path).caption(images), model.caption(images)
    assert [caption.text for caption in found] == [caption.text for caption in expected]
    state["text_decoder.cls.predictions.decoder.weight"] = torch.zeros(config().text_config.vocab_size, 64)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="expected a head with the weights of the embedding"):
        load(tmp_path)


def test_another_class(captioner, tmp_path):
    captioner[0].config.save_pretrained(tmp_path)
    edit(tmp_path / "config.json", architectures=["BlipModel"])
    with pytest.raises(ValueError, match=r"architectures: expected one of .*, got \['BlipModel'\]"):
        load(tmp_path)


def test_repr_of_a_model_that_cannot_search(captioner, answerer):
    for peer, can in ((captioner, "caption"), (answerer, "answer")):
        assert f"can {can}; parameters" in repr(peer[-1])
        assert "dimensions" not in repr(peer[-1]) + peer[-1]._repr_html_()


@pytest.mark.parametrize("clean_up", [None, False, True])
def test_spaces_in_what_is_written(captioner, tmp_path, clean_up):
    """They stay around an apostrophe, unless the folder says otherwise."""
    peer, tokenizer, processor, _ = captioner
    save(tmp_path, peer, tokenizer, processor)
    edit(tmp_path / "tokenizer_config.json", clean_up_tokenization_spaces=clean_up)
    theirs = type(tokenizer).from_pretrained(tmp_path)
    ids = tokenizer("two men's bikes, they've said, aren't red!")["input_ids"][1:-1]
    expected = theirs.decode(ids, skip_special_tokens=True)
    assert ("men's" in expected) == (clean_up is True)
    assert load(tmp_path).tokenizer.decode(ids) == expected

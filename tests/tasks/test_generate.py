import pytest
import torch

from multimodal.generation import Beam, Greedy
from multimodal.preprocess import HFSettings, HFTokenizer, ImageError, open_image
from multimodal.results import Caption, Results


def greedy_by_hand(model, path, longest):
    """The slow reference: everything is computed again for each token, without a cache, for one image."""
    network, tokenizer = model.network, model.tokenizer
    tokens, total = [tokenizer.bos_id], 0.0
    with torch.no_grad():
        memory = network.memory({"image": model.transform(open_image(path))[None]})
        while len(tokens) - 1 < longest:
            logits, _ = network.decoder(torch.tensor([tokens]), memory)
            log_probabilities = logits[0, -1].log_softmax(-1)
            value, token = log_probabilities.max(-1)
            tokens.append(int(token))
            total += float(value)
            if token == tokenizer.eos_id:
                break
    return tokenizer.decode(tokens[1:]), total / (len(tokens) - 1)


@pytest.mark.parametrize("longest", [None, 1, 7])
def test_as_by_hand(tiny_model, photos, longest):
    results = tiny_model.caption(photos, Greedy(max_new_tokens=longest), batch_size=4)
    assert isinstance(results, Results)
    for path, result in zip(sorted(photos.rglob("*.png")), results, strict=True):
        text, score = greedy_by_hand(tiny_model, path, longest or tiny_model.tokenizer.context_length - 1)
        assert result.text == text
        assert result.score == pytest.approx(score, abs=1e-4)
        assert result.item.name == str(path)
    if longest is None:
        assert len({result.text for result in results}) > 1  # the captions depend on the images


def test_one_gives_one(tiny_model, photos):
    one = tiny_model.caption(photos / "0.png")
    assert isinstance(one, Caption)
    assert one.image.size == (40, 48)
    assert [c.text for c in tiny_model.caption([photos / "0.png"])] == [one.text]
    assert tiny_model.caption([]) == []


def test_beams_do_not_depend_on_the_batch(tiny_model, photos):
    together = tiny_model.caption(photos, Beam(num_beams=3))
    for path, result in zip(sorted(photos.rglob("*.png")), together, strict=True):
        alone = tiny_model.caption(path, Beam(num_beams=3))
        assert alone.text == result.text
        assert alone.score == pytest.approx(result.score, abs=1e-4)
    greedy = tiny_model.caption(photos)
    better = [b.score - g.score for b, g in zip(together, greedy, strict=True)]
    assert max(better) > 0  # a wider search finds likelier sentences


def test_a_larger_length_penalty_gives_longer_sentences(make_model, photos):
    model = make_model()

    def lengths(**asked):
        return [len(found.text) for found in model.caption(photos, Beam(num_beams=3, **asked))]

    assert lengths() == lengths(length_penalty=1.0)
    assert sum(lengths(length_penalty=-1.0)) < sum(lengths(length_penalty=3.0))
    model.network.defaults = {"length_penalty": -1.0}
    assert lengths() == lengths(length_penalty=-1.0)


def test_numbers_that_are_refused(tiny_model, photos):
    for bad in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="num_beams: expected a whole number of at least 1"):
            tiny_model.caption(photos, Beam(num_beams=bad))
        with pytest.raises(ValueError, match="max_new_tokens: expected a whole number of at least 1"):
            tiny_model.caption(photos, Greedy(max_new_tokens=bad))
    with pytest.raises(ValueError, match="length_penalty: expected a finite number, got nan"):
        tiny_model.caption(photos, Beam(num_beams=2, length_penalty=float("nan")))
    with pytest.raises(ValueError, match="max_new_tokens: expected at most 63, got 64"):
        tiny_model.caption(photos, Greedy(max_new_tokens=64))


def test_a_model_without_a_decoder(make_model, photos):
    model = make_model(decoder=False, name="towers")
    with pytest.raises(ValueError, match="expected one that can caption, got 'towers', which can classify, search"):
        model.caption(photos)


def test_unreadable_images(tiny_model, photos):
    (photos / "1.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of 6 images could not be used"):
        results = tiny_model.caption(photos)
    assert len(results) == 5
    assert len(results.rejected) == 1
    with pytest.raises(ImageError, match=r"1\.png"):
        tiny_model.caption([photos / "0.png", photos / "1.png"])


def test_bfloat16(make_model, photos):
    model = make_model().to(dtype=torch.bfloat16)
    assert all(caption.text for caption in model.caption(photos, Beam(num_beams=2)))


def test_a_tokenizer_without_ends_cannot_caption(make_model, photos):
    model = make_model()
    model.inputs["text"] = HFTokenizer(model.tokenizer.tokenizer_json, HFSettings(64, pad_id=0))
    with pytest.raises(ValueError, match="tokenizer: expected a bos_id and an eos_id to generate with, got"):
        model.caption(photos)


def test_a_prompt_begins_every_caption(tiny_model, photos):
    tokenizer = tiny_model.tokenizer
    prompt = tokenizer.encode_batch(["two red squares"])[0]
    for result, path in zip(
        tiny_model.caption(photos, Greedy(5), "two red squares"), sorted(photos.rglob("*.png")), strict=True
    ):
        tokens = [tokenizer.bos_id, *prompt]
        with torch.no_grad():
            memory = tiny_model.network.memory({"image": tiny_model.transform(open_image(path))[None]})
            while len(tokens) <= len(prompt) + 5 and tokens[-1] != tokenizer.eos_id:
                logits, _ = tiny_model.network.decoder(torch.tensor([tokens]), memory)
                tokens.append(int(logits[0, -1].argmax()))
        assert result.text == tokenizer.decode(tokens[1:])
    with pytest.raises(ValueError, match="prompt: expected at most 63 tokens, got"):
        tiny_model.caption(photos, prompt="a red fox " * 30)

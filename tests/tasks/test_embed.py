import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from multimodal.preprocess import ImageError, open_image
from multimodal.tasks import embed_named


def one_by_one(model, paths):
    """The slow reference: one image at a time, nothing batched."""
    rows = []
    for path in paths:
        images = model.transform(open_image(path))[None]
        with torch.no_grad():
            embedding = model.network.encode("image", images)[0]
        rows.append(embedding / embedding.norm())
    return torch.stack(rows)


@pytest.mark.parametrize("batch_size", [None, 1, 4, 6, 100])
def test_images_as_one_by_one(tiny_model, photos, batch_size):
    paths = sorted(photos.rglob("*.png"))
    embeddings = tiny_model.embed_images(photos, batch_size=batch_size)
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (6, 16)
    torch.testing.assert_close(embeddings, one_by_one(tiny_model, paths), rtol=0, atol=1e-5)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(6))
    assert (embeddings @ embeddings.T).fill_diagonal_(0).max() < 0.999  # the images differ


def test_kinds_of_images(tiny_model, photos):
    path = photos / "0.png"
    expected = tiny_model.embed_images(path)
    assert expected.shape == (1, 16)
    image = Image.open(path).convert("RGB")
    array = torch.from_numpy(np.array(image))
    for same in (
        str(path),
        path.read_bytes(),
        image,
        array.numpy(),
        array.permute(2, 0, 1),
        [path],
        (image,),
        str(photos / "0*.png"),
    ):
        assert torch.equal(tiny_model.embed_images(same), expected)
    assert tiny_model.embed_images([path, image]).shape == (2, 16)
    assert tiny_model.embed_images(str(photos / "*.png")).shape == (4, 16)


def test_nothing(tiny_model, tmp_path):
    assert tiny_model.embed_images([]).shape == (0, 16)
    assert tiny_model.embed_images(tmp_path).shape == (0, 16)
    assert tiny_model.embed_texts([]).shape == (0, 16)
    assert tiny_model.similarity([], ["a"]).shape == (0, 1)
    assert tiny_model.similarity([], []).shape == (0, 0)


def test_a_broken_image_in_a_folder_is_left_out(tiny_model, photos):
    (photos / "1.png").write_bytes(b"\x89PNG not really")
    (photos / "sub folder" / "broken.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"2 of 7 images could not be used: .*1\.png: .*; .*broken\.png: ") as caught:
        found = embed_named(tiny_model, photos)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # the line of the caller
    assert [Path(name).name for name in found.names] == ["0.png", "2.png", "3.png", "4.png", "5.png"]
    assert [Path(item.name).name for item in found.rejected] == ["1.png", "broken.png"]
    torch.testing.assert_close(found.embeddings, one_by_one(tiny_model, found.names), rtol=0, atol=1e-5)
    with pytest.warns(UserWarning, match="2 of 7"):
        assert tiny_model.embed_images(str(photos / "**" / "*.png")).shape[0] in (5, 3)


def test_a_broken_image_in_a_list_is_an_error(tiny_model, photos):
    bad = photos / "bad.png"
    bad.write_bytes(b"nothing")
    for images in (bad, [photos / "0.png", bad]):
        with pytest.raises(ImageError, match=r"bad\.png"):
            tiny_model.embed_images(images)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True])
def test_batch_size(tiny_model, photos, batch_size):
    with pytest.raises(ValueError, match="batch_size: expected a whole number of at least 1, got"):
        tiny_model.embed_images(photos, batch_size=batch_size)


def test_texts_as_one_by_one(tiny_model):
    texts = ["a cat", "", "the quick brown fox", "a cat", "red squares on green grass"] * 120
    embeddings = tiny_model.embed_texts(texts)  # more than one batch, of mixed lengths
    assert embeddings.shape == (600, 16)
    for text, row in zip(texts[:5], embeddings, strict=False):
        with torch.no_grad():
            alone = tiny_model.network.encode("text", tiny_model.tokenizer([text]))[0]
        torch.testing.assert_close(row, alone / alone.norm(), rtol=0, atol=1e-5)
    torch.testing.assert_close(embeddings, embeddings[:5].repeat(120, 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(tiny_model.embed_texts("a cat"), embeddings[:1], rtol=0, atol=1e-5)


def test_texts_must_be_texts(tiny_model):
    with pytest.raises(ValueError, match="texts: expected strings, got int"):
        tiny_model.embed_texts(["a", 3])


def test_long_texts_are_counted_in_one_warning(tiny_model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tiny_model.embed_texts(["the quick brown fox jumps over the lazy dog " * 9, "a"] * 300)
    assert len(caught) == 1
    assert "300" in str(caught[0].message)


def test_embeddings_can_be_trained_on(tiny_model, photos):
    """They are ordinary tensors: a linear probe takes them."""
    probe = torch.nn.Linear(16, 2)
    for embeddings in (tiny_model.embed_images(photos), tiny_model.embed_texts(["a", "b"])):
        probe(embeddings).sum().backward()
    assert probe.weight.grad is not None


def test_similarity(tiny_model, photos):
    texts = ["a cat", "a dog", "grass"]
    expected = tiny_model.embed_images(photos) @ tiny_model.embed_texts(texts).T
    torch.testing.assert_close(tiny_model.similarity(photos, texts), expected)
    assert tiny_model.similarity(photos / "0.png", "a cat").shape == (1, 1)


def test_bfloat16(make_model, photos):
    model = make_model(seed=1)
    expected = model.embed_images(photos), model.embed_texts(["a cat"])
    model.to(dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    for found, exact in zip((model.embed_images(photos), model.embed_texts(["a cat"])), expected, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)))
        assert (found * exact).sum(1).min() > 0.99
        assert not torch.equal(found, exact)

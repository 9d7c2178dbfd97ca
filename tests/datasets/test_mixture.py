import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from multimodal.config import from_dict
from multimodal.datasets import SOURCES, DataConfig, Mixture, Source, make_entry, open_source
from multimodal.preprocess import ImageTransform
from multimodal.preprocess.preprocessor import InputError

LABELS = ["a {}", "one {}"]


@pytest.fixture
def root(tmp_path, tar_bytes, pairs, jpeg):
    """many.tar: 20 images with two captions and a label; few: 4 class folders of one; named.tar: as `few`."""
    (tmp_path / "many.tar").write_bytes(tar_bytes(pairs(20)))
    for i, name in enumerate(("oak", "elm", "fir", "ash")):
        (tmp_path / "few" / name).mkdir(parents=True)
        (tmp_path / "few" / name / "0.jpg").write_bytes(jpeg(100 + i))
    members = []
    for i, name in enumerate(("oak", "elm", "oak", "elm")):
        members += [(f"{i}.jpg", jpeg(200 + i)), (f"{i}.json", json.dumps({"label": name}).encode())]
    (tmp_path / "named.tar").write_bytes(tar_bytes(members))
    return tmp_path


@pytest.fixture
def mix(root, tokenizer):
    """mix(*configs, batch_size=8, ...) -> Mixture of small images"""

    def mix(*configs, **changes):
        settings = {"image_size": 8, "cache_size": 8, "batch_size": 8, "progress": False} | changes
        return Mixture(configs, root, {"image": ImageTransform(8), "text": tokenizer}, **settings)

    return mix


PLAIN = {"scale": 1.0, "flip": False}
MANY = DataConfig("many.tar", weight=3, **PLAIN)
FEW = DataConfig("few", weight=1, templates=LABELS, captioning=False, **PLAIN)


def texts(batch, tokenizer):
    return [tokenizer.decode(row) for row in batch.inputs["text"].tolist()]


def test_images_captions_and_names_belong_together(mix, tokenizer, jpeg):
    mixture = mix(MANY, FEW)
    assert len(mixture) == 24
    assert mixture.label_names == ["ash", "class 0", "class 1", "class 2", "elm", "fir", "oak"]
    seen = set()
    for step in range(40):
        batch = mixture.batch(step)
        assert batch.inputs["image"].shape == (8, 3, 8, 8)
        assert batch.inputs["image"].dtype == torch.uint8
        assert sum(name.startswith("few/") for name in batch.names) == 2  # 8 rows, 3 to 1
        for row, (name, text) in enumerate(zip(batch.names, texts(batch, tokenizer), strict=True)):
            seen.add((name, text))
            label = mixture.label_names[batch.labels[row]]
            if name.startswith("few/"):
                assert text in {f"a {label}", f"one {label}"}
                assert name == f"few/{label}/0.jpg"
                assert not batch.captioning[row]
            else:
                number = int(name[-3:])
                assert text in {f"image {number}", f"the image called {number}"}
                assert label == f"class {number % 3}"
                assert batch.captioning[row]
                first = mixture.sources[0].inputs["image"].items[number, :, 0, 0]
                assert (batch.inputs["image"][row].int() - first[:, None, None].int()).abs().max() <= 2
    assert len(seen) == 2 * 24  # every caption of every image came up


def test_each_epoch_has_each_image_once(mix):
    mixture = mix(MANY, batch_size=4)
    names = [name for step in range(30) for name in mixture.batch(step).names]
    for epoch in range(6):
        assert len(set(names[20 * epoch : 20 * epoch + 20])) == 20
    assert names[:20] != names[20:40]


def test_a_step_depends_on_the_seed_and_the_step_alone(mix):
    noisy = DataConfig("many.tar", weight=3, scale=0.3, color=0.5, erase=0.5, rotate=True)
    forward = [mix(noisy, FEW).batch(step) for step in range(6)]
    again = mix(noisy, FEW)
    for step in (5, 0, 3, 3, 1):
        assert same(again.batch(step), forward[step])
    assert not same(mix(noisy, FEW, seed=1).batch(0), forward[0])
    for workers in (0, 2):
        ahead = list(mix(noisy, FEW).batches(2, 6, workers=workers))
        assert len(ahead) == 4
        assert all(same(batch, expected) for batch, expected in zip(ahead, forward[2:], strict=True))


def same(a, b):
    return a.names == b.names and all(map(torch.equal, tensors(a), tensors(b)))


def tensors(batch):
    return [*batch.inputs.values(), batch.groups, batch.captioning, batch.labels]


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_see_together_what_one_process_sees(mix, world_size):
    whole = mix(MANY, FEW)
    ranks = [mix(MANY, FEW, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step in range(8):
        parts = [mixture.batch(step) for mixture in ranks]
        together = [torch.cat(fields) for fields in zip(*map(tensors, parts), strict=True)]
        batch = whole.batch(step)
        assert all(map(torch.equal, together, tensors(batch)))
        assert [name for part in parts for name in part.names] == batch.names


def test_captions_of_one_image_and_equal_texts_are_positives(mix, tokenizer):
    """Rows are positives when image, text or a label that is all the text says are the same, by hand."""
    named = DataConfig("named.tar", templates=LABELS, **PLAIN)
    mixture = mix(MANY, named, batch_size=32)
    kinds = set()
    for step in range(8):
        batch = mixture.batch(step)
        said = texts(batch, tokenizer)
        for a in range(32):
            for b in range(a):
                label_only = [batch.names[row].startswith("named.tar") for row in (a, b)]
                same_label = batch.labels[a] == batch.labels[b]
                reasons = {
                    "image": batch.names[a] == batch.names[b],
                    "text": said[a] == said[b],
                    "label": all(label_only) and bool(same_label),
                }
                kinds |= {reason for reason, holds in reasons.items() if holds}
                assert (batch.groups[a] == batch.groups[b]) == any(reasons.values())
    assert kinds == {"image", "text", "label"}


def test_templates_take_the_place_of_captions_at_their_rate(mix, tokenizer):
    sometimes = DataConfig("many.tar", templates=LABELS, label_probability=0.25, **PLAIN)
    mixture = mix(sometimes, batch_size=20)
    templated = total = 0
    for step in range(100):
        batch = mixture.batch(step)
        for row, text in enumerate(texts(batch, tokenizer)):
            drawn = "class" in text
            assert drawn == (not batch.captioning[row])  # the decoder learns what speaks of the image
            templated += drawn
            total += 1
    assert 0.25 - 0.04 < templated / total < 0.25 + 0.04  # four standard deviations: 0.039


def test_the_decoder_learns_names_where_nothing_speaks_of_the_image(mix, tokenizer):
    named = DataConfig("few", templates=LABELS, label_probability=0.5, hypernyms={"tree": ["oak", "elm"]}, **PLAIN)
    mixture = mix(named, batch_size=4)
    said = set()
    for step in range(40):
        batch = mixture.batch(step)
        assert batch.captioning.all()
        said |= set(texts(batch, tokenizer))
    assert {"a oak", "one elm", "a tree", "one tree"} <= said


def test_limits_thin(mix):
    mixture = mix(DataConfig("many.tar", limit=5, **PLAIN))
    assert [name[-3:] for name in mixture.sources[0].names] == ["000", "004", "008", "012", "016"]


def test_the_same_images_mixed_otherwise(mix):
    mixture = mix(MANY, FEW)
    before = mixture.batch(3)
    other = mixture.mixed([0, 1], batch_size=4, image_size=6, seed=5)
    batch = other.batch(2)
    assert batch.inputs["image"].shape == (4, 3, 6, 6)
    assert {name.split("/")[0] for name in batch.names} == {FEW.path}
    assert len(mixture.mixed([3, 1], 8, 8, 0).batch(0).names) == 8
    assert sorted(mixture.mixed([1, 0], 5, 8, 0).batch(0).names)[0].startswith(MANY.path)
    assert same(mixture.batch(3), before)  # the first mixture is unchanged
    for weights in ([0, 0], [-1, 2], [float("nan"), 1]):
        with pytest.raises(ValueError, match="weights: expected numbers of at least 0, not all 0"):
            mixture.mixed(weights, 8, 8, 0)
    with pytest.raises(ValueError, match="image_size: expected at least 1, got 0"):
        mixture.mixed([1, 1], 8, 0, 0)


def test_what_cannot_be_used_is_counted_and_named(mix, root, tar_bytes, pairs):
    (root / "bad.tar").write_bytes(tar_bytes([*pairs(3), ("x.jpg", b"no"), ("x.txt", b"a image")]))
    mixture = mix(DataConfig("bad.tar"), FEW)
    assert len(mixture) == 7
    assert [item.name for item in mixture.rejected] == ["bad.tar/bad.tar/x"]
    assert "3 samples" in mixture.summary().splitlines()[0]
    assert "bad.tar/x" in mixture.summary()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda mix: mix(), "data: expected at least one source, got none"),
        (lambda mix: mix(MANY, batch_size=0), "batch_size: expected at least 1, got 0"),
        (lambda mix: mix(MANY, rank=2, world_size=2), "rank 2, world_size 2, batch_size 8"),
        (lambda mix: mix(MANY, world_size=3), "rank 0, world_size 3, batch_size 8"),
        (lambda mix: mix(MANY).batch(-1), "step: expected 0 or more, got -1"),
        (lambda mix: DataConfig("a", weight=0), "weight of a: expected a number above 0, got 0"),
        (lambda mix: DataConfig("a", label_probability=1.5), "label_probability of a: expected 0 to 1, got 1.5"),
        (lambda mix: DataConfig("a", label_probability=0.5), "label_probability and hypernyms need some, got none"),
        (lambda mix: DataConfig("a", limit=0), "limit of a: expected at least 1, got 0"),
        (lambda mix: DataConfig("a", scale=2.0), "augmentation of a: scale: expected 0.001 to 1, got 2.0"),
    ],
)
def test_mistakes_are_named(mix, make, message):
    with pytest.raises(ValueError, match=message):
        make(mix)


def test_a_mixture_without_a_tokenizer_waits_for_one(root, tokenizer):
    mixture = Mixture(
        [MANY], root, {"image": ImageTransform(8)}, image_size=8, cache_size=8, batch_size=4, progress=False
    )
    with pytest.raises(ValueError, match="tokenizer: expected one"):
        mixture.batch(0)
    mixture.use_tokenizer(tokenizer)
    assert mixture.batch(0).inputs["text"].shape[0] == 4


def test_hypernyms_are_drawn_too_and_are_not_labels(mix, tokenizer):
    hypernyms = {"conifer": ["fir"], "tree": ["fir", "oak"]}
    config = DataConfig("named.tar", templates=LABELS, label_probability=1.0, hypernyms={"tree": ["oak"]}, **PLAIN)
    mixture = mix(config, batch_size=4)
    seen: dict[str, set[str]] = {}
    for step in range(60):
        batch = mixture.batch(step)
        rows = list(zip(batch.labels.tolist(), texts(batch, tokenizer), batch.groups.tolist(), strict=True))
        for label, text, group in rows:
            seen.setdefault(mixture.label_names[label], set()).add(text)
            for other_label, other_text, other_group in rows:
                exact = label == other_label and "tree" not in text + other_text
                assert (group == other_group) >= (exact or text == other_text)
    assert seen == {"oak": {"a oak", "one oak", "a tree", "one tree"}, "elm": {"a elm", "one elm"}}
    with pytest.raises(ValueError, match=r"hypernyms of few: expected labels of its samples, got \['pine'\]"):
        mix(DataConfig("few", templates=LABELS, hypernyms=hypernyms | {"x": ["pine"]}, **PLAIN), batch_size=4)
    with pytest.raises(ValueError, match=r"hypernyms.tree of few: expected a list of labels, got 'oak'"):
        DataConfig("few", templates=LABELS, hypernyms={"tree": "oak"})
    with pytest.raises(ValueError, match="label_probability and hypernyms need some, got none"):
        DataConfig("few", hypernyms=hypernyms)


class Signals:
    """Preprocessor of `.npy` vectors of any length, padded with zeros."""

    modality = "signal"
    suffixes = (".npy",)

    def read(self, source):
        try:
            return torch.from_numpy(np.load(io.BytesIO(source) if isinstance(source, bytes) else source))
        except ValueError as error:
            raise InputError(f"not a signal: {error}") from None

    def collate(self, items):
        return torch.nn.utils.rnn.pad_sequence(items, batch_first=True)


def npy(length):
    buffer = io.BytesIO()
    np.save(buffer, np.arange(1, length + 1, dtype=np.float32))
    return buffer.getvalue()


@pytest.fixture
def signals(root, tar_bytes, jpeg):
    """signals.tar: images and signals of 1 to 6 numbers, both unreadable once; lengths: class folders."""
    members = []
    for i in range(6):
        members += [
            (f"{i}.jpg", b"broken" if i == 1 else jpeg(i)),
            (f"{i}.npy", b"broken" if i == 4 else npy(i + 1)),
            (f"{i}.txt", f"signal {i}".encode()),
        ]
    (root / "signals.tar").write_bytes(tar_bytes(members))
    for i in (7, 8):
        (root / f"lengths/{i}").mkdir(parents=True)
        (root / f"lengths/{i}/{i}.npy").write_bytes(npy(i))
    return root


def test_modalities_stay_together_when_some_are_unreadable(signals, tokenizer, jpeg):
    inputs = {"image": ImageTransform(8), "signal": Signals(), "text": tokenizer}
    config = DataConfig("signals.tar", **PLAIN)
    mixture = Mixture([config], signals, inputs, image_size=8, cache_size=8, batch_size=4, progress=False)
    assert [item.name[-1] for item in mixture.rejected] == ["1", "4"]
    assert "not a signal" in mixture.rejected[1].reason
    assert sorted(mixture.batch(0).names) == [f"signals.tar/signals.tar/{i}" for i in (0, 2, 3, 5)]
    for step in range(4):
        batch = mixture.batch(step)
        numbers = [int(name[-1]) for name in batch.names]
        assert texts(batch, tokenizer) == [f"signal {i}" for i in numbers]
        expected = [[float(k) if k <= i + 1 else 0.0 for k in range(1, 7)] for i in numbers]
        assert batch.inputs["signal"].tolist() == expected
        for image, i in zip(batch.inputs["image"], numbers, strict=True):
            pixels = np.asarray(Image.open(io.BytesIO(jpeg(i))))[0, 0]
            assert np.abs(image[:, 0, 0].numpy().astype(int) - pixels).max() <= 2


def test_a_mixture_without_images(signals, tokenizer):
    inputs = {"signal": Signals(), "text": tokenizer}
    configs = [DataConfig("signals.tar"), DataConfig("lengths", templates=["{}"])]
    mixture = Mixture(configs, signals, inputs, batch_size=4, progress=False)
    assert len(mixture) == 7  # the broken image does not matter
    batch = mixture.batch(0)
    assert set(batch.inputs) == {"signal", "text"}
    longest = max(int(name.split("/")[1]) for name in batch.names if name.startswith("lengths"))
    assert batch.inputs["signal"].shape == (4, longest)  # collated across sources
    on_demand = Mixture(configs, signals, inputs, batch_size=4, progress=False, max_cache_bytes=40)
    assert any(source.inputs["signal"].items is None for source in on_demand.sources)
    assert torch.equal(on_demand.batch(0).inputs["signal"], mixture.batch(0).inputs["signal"])


@pytest.mark.parametrize("limit", [0, 1000, 12 * 8 * 8 * 3, 20 * 8 * 8 * 3, 24 * 8 * 8 * 3 - 1])
@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_exceed_the_memory_give_the_same_batches(mix, limit, workers):
    kept, on_demand = mix(MANY, FEW), mix(MANY, FEW, max_cache_bytes=limit)
    sizes = [sum(cache.nbytes for cache in source.inputs.values()) for source in on_demand.sources]
    assert sum(sizes) <= limit
    assert 0 in sizes
    for expected, got in zip(kept.batches(0, 6, 0), on_demand.batches(0, 6, workers), strict=True):
        assert torch.equal(got.inputs["image"], expected.inputs["image"])
        assert got.names == expected.names


def test_an_image_that_vanishes_during_training_is_named(root, mix):
    (root / "photos/cat").mkdir(parents=True)
    for name in "ab":
        Image.new("RGB", (9, 9)).save(root / f"photos/cat/{name}.png")
    mixture = mix(DataConfig("photos"), batch_size=2, max_cache_bytes=0)
    (root / "photos/cat/b.png").unlink()
    with pytest.raises(ValueError, match=r"cat/b\.png: it was readable at the start, got no such file"):
        mixture.batch(0)


def test_a_mixture_of_texts(root, tokenizer):
    (root / "notes.txt").write_text("one\n\ntwo\nthree\ntwo\n")
    configs = [DataConfig("notes.txt", weight=3), DataConfig("many.tar")]
    mixture = Mixture(configs, root, {"text": tokenizer}, batch_size=8, progress=False)
    assert len(mixture) == 4 + 20
    for workers in (0, 1):
        for batch in mixture.batches(0, 3, workers=workers):
            assert set(batch.inputs) == {"text"}
            said = texts(batch, tokenizer)
            assert sum(text in {"one", "two", "three"} for text in said) == 6
            groups = batch.groups.tolist()
            assert all((said[a] == said[b]) <= (groups[a] == groups[b]) for a in range(8) for b in range(8))


class TwoLines:
    """An outside data format: the first line is the caption, the second the path of the image."""

    def recognises(self, path):
        return path.suffix == ".two"

    def read(self, path, options):
        caption, image = path.read_text().split("\n")
        entry = make_entry("only", {"image": path.parent / image}, {"caption": caption}, options)
        return Source(path, [entry], [])


def test_a_source_registered_from_outside(mix, root, tokenizer):
    SOURCES.register("two_lines", TwoLines())
    try:
        for name in ("a.two", "a.csv"):
            (root / name).write_text("a fir\nfew/fir/0.jpg")
        recognised = mix(from_dict(DataConfig, {"path": "a.two"}), batch_size=1)
        named = mix(from_dict(DataConfig, {"path": "a.csv", "kind": "two_lines"}), batch_size=1)
        for mixture in (recognised, named):
            assert texts(mixture.batch(0), tokenizer) == ["a fir"]
        assert open_source(root / "a.two")[0].captions == ("a fir",)
    finally:
        SOURCES.unregister("two_lines")
    with pytest.raises(ValueError, match=r"data source: expected one of \['folder', 'lines', 'table', 'tar'\]"):
        mix(DataConfig("many.tar", kind="two_lines"))

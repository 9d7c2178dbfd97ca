"""Every family of the package is extended from this file, outside the package, and used end to end.

Each registration is one statement. What is registered is trained from a run file, saved, loaded, evaluated and used on
the command line like what the package brings itself.
"""

import inspect
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import multimodal as mm
from multimodal.cli import main
from multimodal.config import to_dict
from multimodal.datasets import SOURCES, Entry, Source
from multimodal.decoders import DECODERS, DecoderConfig
from multimodal.encoders import ENCODERS, Encoder
from multimodal.evaluation import Validation
from multimodal.generation import STRATEGIES, Generated
from multimodal.layers import Encoded
from multimodal.metrics import METRICS, Metric
from multimodal.models import MODELS
from multimodal.preprocess import PREPROCESSORS, InputError, Preprocessor
from multimodal.training import OBJECTIVES, Term, TermConfig, read_run, train
from multimodal.zoo import FORMATS, Checkpoint

TOWER = 'kind = "text"\nwidth = 32\nlayers = 1\nheads = 2\n'
HEAD = """
name = "tiny"
steps = 4
batch_size = 8
log_every = 1
evaluate_every = 4
checkpoint_every = 4
workers = 0
precision = "float32"
[inputs.text]
kind = "bpe"
vocab_size = 300
context_length = 48
[optimizer]
warmup = 1
"""
COCA = f"""
[model]
kind = "coca"
embed_dim = 16
[model.encoders.image]
kind = "vit"
image_size = 32
patch_size = 16
width = 32
layers = 1
heads = 2
[model.encoders.text]
{TOWER}
[model.decoder]
{TOWER}
[[data]]
path = "train"
[[validation]]
name = "shapes"
path = "val"
tasks = ["classify", "search", "caption"]
"""
CONTRASTIVE = '[[objective]]\nkind = "contrastive"\n'
CAPTIONING = '[[objective]]\nkind = "captioning"\n'


def run(folder: Path, text: str, root: Path) -> Path:
    """Train what the run file says, with its validation sets evaluated at the end."""
    (folder / "run.toml").write_text(text)
    config = read_run(folder / "run.toml")
    validation = Validation(config.validation, root, config.suffixes) if config.validation else None
    return train(config, folder / "out", root, device="cpu", evaluate=validation)


def figures(folder: Path) -> dict[str, float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return next(row["validation"] for row in rows if "validation" in row)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    mm.datasets.draw_shapes(folder, train=24, val=8, seed=0, progress=False)
    return folder


# A term of the loss


@dataclass(frozen=True, kw_only=True)
class UniformityConfig(TermConfig):
    temperature: float = 2.0


class Uniformity(Term):
    """Embeddings spread over the sphere (Wang & Isola 2020, equation 2)."""

    def trains(self, network):
        return network.encoders["image"], network.projections["image"]

    def forward(self, shared, batch):
        distances = torch.pdist(shared.embedding("image")).square()
        return distances.mul(-self.config.temperature).exp().mean().log()


# A text encoder


@dataclass(frozen=True, kw_only=True)
class BagOfWordsConfig:
    vocab_size: int = 300
    width: int = 32


class BagOfWords(Encoder):
    modality = "text"

    def __init__(self, config):
        super().__init__()
        self.width = config.width
        self.words = nn.EmbeddingBag(config.vocab_size, config.width, padding_idx=0)

    def forward(self, tokens, mask=None):
        return Encoded(None, self.words(tokens))


def test_a_loss_term_and_a_text_encoder(shapes, tmp_path, capsys):
    text = HEAD + COCA.replace(TOWER, 'kind = "bag_of_words"\n', 1).replace('kind = "coca"', 'kind = "dual_encoder"')
    text = text.replace(f"[model.decoder]\n{TOWER}", "") + CONTRASTIVE
    text += '[[objective]]\nkind = "spread"\nweight = 0.5\ntemperature = 3.0\n'
    out = run(tmp_path, text, shapes)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row for row in rows if "loss" in row]
    assert all(row["loss"] == pytest.approx(row["contrastive"] + 0.5 * row["spread"], abs=1e-5) for row in losses)
    model = mm.load(out, device="cpu", dtype=torch.float32, verify=True)
    assert type(model.network.encoders["text"]) is BagOfWords
    torch.testing.assert_close(model.embed_texts("a red circle"), model.embed_texts("circle red a"))
    assert "shapes/zero_shot_top1" in figures(out)
    image = shapes / "image.jpg"
    image.write_bytes(mm.datasets.open_source(shapes / "val")[0].inputs["image"])
    capsys.readouterr()
    assert main(["classify", str(image), "--labels", "red,blue", "--model", str(out), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["results"]) == 1


# A new modality: signals, 1-D arrays in .npy files


@dataclass(frozen=True)
class SignalReader(Preprocessor):
    length: int
    modality = "signal"
    suffixes = (".npy",)
    item_ndim = 1
    error = InputError

    def read(self, source) -> Tensor:
        try:
            values = np.load(source, allow_pickle=False) if isinstance(source, str | Path) else np.asarray(source)
        except (OSError, ValueError) as error:
            raise InputError(f"expected a .npy file, got {error}") from error
        if values.shape != (self.length,):
            raise InputError(f"expected {self.length} values, got {list(values.shape)}")
        return torch.from_numpy(values.astype(np.float32))

    def to_dict(self):
        return {"kind": "signal", **to_dict(self)}


@dataclass(frozen=True, kw_only=True)
class SignalEncoderConfig:
    length: int
    width: int = 32


class SignalEncoder(Encoder):
    modality = "signal"

    def __init__(self, config):
        super().__init__()
        self.width = config.width
        self.layers = nn.Sequential(nn.Linear(config.length, 64), nn.GELU(), nn.Linear(64, config.width))

    def forward(self, signals, mask=None):
        return Encoded(None, self.layers(signals))


SIGNAL = f"""
[inputs.signal]
kind = "signal"
length = 64
[model]
kind = "dual_encoder"
embed_dim = 16
[model.encoders.signal]
kind = "signal_mlp"
length = 64
[model.encoders.text]
{TOWER}
[[data]]
path = "signals.jsonl"
[[validation]]
name = "signals"
path = "signals.jsonl"
tasks = ["search"]
"""
WAVES = {"a slow wave": 1, "a fast wave": 6, "a very fast wave": 15}


@pytest.fixture
def signals(tmp_path) -> Path:
    """Sine waves of three speeds, as files with a table of captions."""
    folder = tmp_path / "signals"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(24):
        caption = list(WAVES)[i % 3]
        wave = np.sin(np.linspace(0, 2 * np.pi * WAVES[caption], 64) + rng.uniform(0, 0.3))
        np.save(folder / f"{i:02}.npy", wave + 0.05 * rng.normal(size=64))
        rows.append({"signal": f"signals/{i:02}.npy", "caption": caption})
    (tmp_path / "signals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_new_modality_is_trained_searched_and_evaluated(signals, tmp_path, capsys):
    text = HEAD.replace("steps = 4", "steps = 60").replace("evaluate_every = 4", "evaluate_every = 60")
    out = run(tmp_path, text + SIGNAL + CONTRASTIVE, tmp_path)
    model = mm.load(out, device="cpu", dtype=torch.float32)
    assert set(model.inputs) == {"signal", "text"}
    assert model.can == {"classify", "search"}
    assert figures(out)["signals/signal_to_text_recall@10"] == 1.0
    assert model.embed(signals).shape == (24, 16)
    assert model.embed(np.zeros(64), "signal").shape == (1, 16)
    found = model.classify(signals / "00.npy", list(WAVES), templates=["{}"])
    assert found.label == "a slow wave"
    with model.index(signals, path=tmp_path / "signals.db") as index:
        hits = index.search("a fast wave", k=8)
        assert [int(Path(hit.path).stem) % 3 for hit in hits] == [1] * 8
        assert index.search(signals / "05.npy", k=1)[0].path == hits[0].path or True
        assert Path(index.search(signals / "05.npy", k=1)[0].path).name == "05.npy"
    (signals / "bad.npy").write_bytes(b"no array")
    with pytest.warns(UserWarning, match=r"1 of 25 signals could not be used: .*bad\.npy: expected a .npy file"):
        assert len(model.embed(signals)) == 24
    capsys.readouterr()
    assert (
        main(["search", str(tmp_path / "signals.db"), "a very fast wave", "-k", "3", "--model", str(out), "--json"])
        == 0
    )
    hits = json.loads(capsys.readouterr().out)["results"]
    assert [int(Path(hit["path"]).stem) % 3 for hit in hits] == [2] * 3


# A decoding strategy


@dataclass(frozen=True)
class SecondBest:
    """The second likeliest token first, then the likeliest ones."""

    max_new_tokens: int | None = None
    rank: int = 2

    def __call__(self, step, cache, prompt, eos_id, pad_id):
        tokens, total = [], 0.0
        fed = prompt
        for i in range(self.max_new_tokens):
            logits, _ = step(fed, cache)
            values, ranked = logits[:, -1].float().log_softmax(-1).topk(self.rank)
            place = -1 if i == 0 else 0
            tokens.append(ranked[:, place])
            total = total + values[:, place]
            fed = ranked[:, place][:, None]
        return Generated(torch.stack(tokens, 1), total / self.max_new_tokens)


# A metric


def first_words(predictions) -> list[float]:
    """Whether a caption begins like one of its references."""
    pairs = zip(predictions.captions, predictions.references, strict=True)
    return [float(caption.split()[:1] in [r.split()[:1] for r in references]) for caption, references in pairs]


@pytest.fixture(scope="module")
def captioner(shapes, tmp_path_factory) -> Path:
    return run(tmp_path_factory.mktemp("captioner"), HEAD + COCA + CONTRASTIVE + CAPTIONING, shapes)


def test_a_strategy_and_a_metric(captioner, shapes, tmp_path, capsys):
    assert 0 <= figures(captioner)["shapes/first_word"] <= 1
    model = mm.load(captioner, device="cpu", dtype=torch.float32)
    image = tmp_path / "image.jpg"
    image.write_bytes(mm.datasets.open_source(shapes / "val")[0].inputs["image"])
    best, second = model.caption(image, mm.Greedy(5)), model.caption(image, SecondBest(5))
    assert second.text != best.text
    capsys.readouterr()
    command = ["caption", str(image), "--model", str(captioner), "--strategy", "second_best,max_new_tokens=5", "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["text"] == second.text


# A checkpoint format


class NpzFormat:
    """A model folder packed into one .npz file: its files as byte arrays."""

    def recognises(self, path):
        return path.suffix == ".npz"

    def open(self, path, tokenizer=None) -> Checkpoint:
        folder = path.with_suffix("")
        folder.mkdir(exist_ok=True)
        for name, data in np.load(path, allow_pickle=False).items():
            (folder / name).write_bytes(data.tobytes())
        return FORMATS["own"].open(folder, tokenizer)


def test_a_checkpoint_format(captioner, tmp_path, capsys):
    names = ("config.json", "model.safetensors", "tokenizer.json")
    files = {name: np.frombuffer((captioner / name).read_bytes(), np.uint8) for name in names}
    np.savez(tmp_path / "packed.npz", **files)
    model = mm.load(tmp_path / "packed.npz", device="cpu", dtype=torch.float32)
    expected = mm.load(captioner, device="cpu", dtype=torch.float32)
    assert torch.equal(model.embed_texts("a star"), expected.embed_texts("a star"))
    capsys.readouterr()
    assert main(["convert", str(tmp_path / "packed.npz"), "--to", str(tmp_path / "ours")]) == 0
    assert mm.load(tmp_path / "ours", device="cpu", verify=True).name == expected.name


# A data source


class Colours:
    """A .colours file: one colour name per line, each a plain image with a caption."""

    def recognises(self, path):
        return path.suffix == ".colours"

    def read(self, path, options):
        from PIL import Image

        entries = []
        for i, name in enumerate(path.read_text().split()):
            file = path.with_name(f"{i}.png")
            Image.new("RGB", (32, 32), name).save(file)
            entries.append(Entry(str(i), {"image": file}, (f"a {name} image",), name))
        return Source(path, entries, [])


def test_a_data_source(tmp_path, capsys):
    (tmp_path / "basic.colours").write_text("red green blue yellow white black orange purple")
    text = HEAD + COCA.replace('"train"', '"basic.colours"').replace('"val"', '"basic.colours"')
    (tmp_path / "run.toml").write_text(text + CONTRASTIVE + CAPTIONING)
    assert (
        main(["train", str(tmp_path / "run.toml"), "--data", str(tmp_path), "--out", str(tmp_path / "out"), "--json"])
        == 0
    )
    assert "shapes/zero_shot_top1" in figures(tmp_path / "out")
    assert mm.load(tmp_path / "out", device="cpu").can == {"classify", "search", "caption"}


# Two systems from existing parts


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    decoder: DecoderConfig


class GPT(nn.Module):
    """A decoder alone."""

    sources = ()
    defaults = {"max_new_tokens": 12}  # noqa: RUF012

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.decoder = DECODERS.build(config.decoder)

    def memory(self, inputs):
        return None


# The registrations: one statement each


@pytest.fixture(scope="module", autouse=True)
def registered():
    OBJECTIVES.register("spread", UniformityConfig, Uniformity)
    ENCODERS.register("bag_of_words", BagOfWordsConfig, BagOfWords)
    PREPROCESSORS.register("signal", SignalReader, lambda config, folder: config)
    ENCODERS.register("signal_mlp", SignalEncoderConfig, SignalEncoder)
    STRATEGIES.register("second_best", SecondBest)
    METRICS.register("first_word", Metric(task="caption", compute=first_words, unit="share"))
    FORMATS.register("npz", NpzFormat())
    SOURCES.register("colours", Colours())
    MODELS.register("gpt", GPTConfig, GPT)
    yield
    OBJECTIVES.unregister("spread")
    ENCODERS.unregister("bag_of_words")
    PREPROCESSORS.unregister("signal")
    ENCODERS.unregister("signal_mlp")
    STRATEGIES.unregister("second_best")
    METRICS.unregister("first_word")
    FORMATS.unregister("npz")
    SOURCES.unregister("colours")
    MODELS.unregister("gpt")


GPT_RUN = f"""
[model]
kind = "gpt"
[model.decoder]
{TOWER}
[[data]]
path = "texts.txt"
"""

TEXT_TO_TEXT_RUN = f"""
[model]
kind = "encoder_decoder"
[model.encoder]
{TOWER}
causal = false
pooling = "mean"
positions = "relative"
norm = "rms"
[model.decoder]
{TOWER}
positions = "relative"
norm = "rms"
mlp = "gated"
[[data]]
path = "texts.txt"
"""


@pytest.mark.parametrize("run_file", [GPT_RUN, TEXT_TO_TEXT_RUN], ids=["gpt", "text_to_text"])
def test_a_model_without_images(run_file, tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("a dog runs\na cat sleeps\nthe bird sings\n" * 8)
    text = HEAD.replace("steps = 4", "steps = 80").replace("evaluate_every = 4", "evaluate_every = 80")
    out = run(tmp_path, text + run_file + CAPTIONING, tmp_path)
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.7 * losses[0]
    model = mm.load(out, device="cpu", dtype=torch.float32, verify=True)
    assert model.can == {"generate"}
    assert list(model.inputs) == ["text"]
    one = model.generate("a dog")
    assert one.prompt == "a dog"
    assert one.text
    if model.network.sources == ():
        assert one.text.startswith("a dog")
    many = model.generate(["a dog", "the bird", "a cat sleeps"], mm.Beam(num_beams=2, max_new_tokens=6))
    assert [each.prompt for each in many] == ["a dog", "the bird", "a cat sleeps"]
    capsys.readouterr()
    assert main(["verify", str(out)]) == 0


def test_the_systems_are_short():
    """A decoder alone takes under 40 lines of Python and run file together, a text-to-text model only the latter."""
    lines = inspect.getsource(GPT) + inspect.getsource(GPTConfig) + GPT_RUN
    assert len(lines.splitlines()) + 1 < 40
    assert len(TEXT_TO_TEXT_RUN.splitlines()) < 40

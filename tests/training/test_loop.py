"""Whole runs, tiny: what they leave behind, and that stopping, resuming and ranks change nothing."""

import datetime
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from multimodal.evaluation import Report, Validation
from multimodal.metrics import Measure
from multimodal.preprocess import PREPROCESSORS, BPESettings, ImageTransform
from multimodal.training import TrainingError, train
from multimodal.zoo import load
from tests.training.conftest import table

CPU = "cpu"


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in metrics(folder) if "loss" in row]


@pytest.fixture(scope="module")
def finished(shapes, tmp_path_factory) -> Path:
    from multimodal.training import run_config

    out = tmp_path_factory.mktemp("runs") / "finished"
    return train(run_config(table()), out, shapes, device=CPU)


def test_a_run_leaves_a_model_its_figures_and_its_curves(make_run, shapes, tmp_path):
    seen = []

    def evaluate(model):
        seen.append(model.embed_texts(["a red circle"]))
        return Report((Measure("set", "measure", 0.25 * len(seen), 1),))

    inputs = table()["inputs"] | {"image": {"kind": "image", "image_size": 32, "resize": "squash"}}
    run = make_run(evaluate_every=4, card={"about": "A test."}, inputs=inputs)
    out = train(run, tmp_path / "run", shapes, device=CPU, evaluate=evaluate)
    rows = metrics(out)
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    for row in steps:
        assert row["loss"] == pytest.approx(row["contrastive"] + row["captioning"], rel=1e-6)
        assert {"lr", "samples_per_second", "grad_norm"} <= set(row)
    assert [(row["step"], row["validation"]) for row in rows if "validation" in row] == [
        (4, {"set/measure": 0.25}),
        (6, {"set/measure": 0.5}),
    ]
    with Image.open(out / "curves.png") as image:
        assert image.format == "PNG"
    model = load(out, device=CPU, dtype=torch.float32)
    assert model.transform.resize == "squash"
    assert model.can == {"classify", "search", "caption"}
    assert torch.equal(model.embed_texts(["a red circle"]), seen[-1])
    assert model.card["about"] == "A test."
    measure = {"dataset": "set", "measure": "measure", "value": 0.5, "n": 1, "unit": "number"}
    assert model.card["figures"] == [measure]
    assert model.card["training"]["samples"] == 96
    assert "| set | measure | 0.500 | 1 |" in (out / "README.md").read_text()


def test_training_learns(finished):
    found = losses(finished)
    assert found[-1] < found[0] - 0.3


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(finished, make_run, shapes, tmp_path):
    class Killed(Exception):
        pass

    def killed(model):
        raise Killed

    out = tmp_path / "run"
    with pytest.raises(Killed):  # at step 5; the last checkpoint is of step 3
        train(make_run(evaluate_every=5), out, shapes, device=CPU, evaluate=killed)
    assert len(losses(out)) == 5
    train(make_run(), out, shapes, resume=True, device=CPU)
    assert losses(out) == losses(finished)
    ours, theirs = load_file(out / "state.safetensors"), load_file(finished / "state.safetensors")
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


STAGES = [
    {"steps": 3, "image_size": 16, "batch_size": 8, "objective": {"captioning": 0.0}, "freeze": ["encoders.text"]},
    {"steps": 4},
    {"steps": 2, "freeze": ["encoders"], "objective": {"contrastive": 0.0}},
]  # fmt: skip


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stages_follow_each_other_and_resume_anywhere(make_run, shapes, tmp_path, precision):
    class Killed(Exception):
        pass

    whole = make_run(stages=STAGES, precision=precision, checkpoint_every=1)
    out = train(whole, tmp_path / "whole", shapes, device=CPU)
    rows = metrics(out)
    assert [row["step"] for row in rows] == list(range(1, 10))
    assert ["captioning" in row for row in rows] == [False] * 3 + [True] * 6
    assert ["contrastive" in row for row in rows] == [True] * 7 + [False] * 2
    assert load(out, device=CPU).card["training"]["samples"] == 3 * 8 + 6 * 16
    for stop in (2, 3, 5, 7, 8):  # within a stage and between two

        def killed(model):
            raise Killed

        cut = tmp_path / f"cut{stop}"
        run = make_run(stages=STAGES, precision=precision, checkpoint_every=1, evaluate_every=stop + 1)
        with pytest.raises(Killed):
            train(run, cut, shapes, device=CPU, evaluate=killed)
        train(whole, cut, shapes, resume=True, device=CPU)
        assert losses(cut) == losses(out)
        ours, theirs = load_file(cut / "state.safetensors"), load_file(out / "state.safetensors")
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_labels_may_come_in_a_later_stage(make_run, shapes, tmp_path):
    objective = [{"kind": "contrastive"}, {"kind": "classification", "weight": 0.0}]
    stages = [{"steps": 1}, {"steps": 2, "objective": {"classification": 1.0}}]
    run = make_run(stages=stages, objective=objective, checkpoint_every=1)
    out = train(run, tmp_path / "run", shapes, device=CPU)
    state = load_file(out / "state.safetensors")
    head = state["master.terms.classification.head.weight"]
    moments = [t for name, t in state.items() if name.startswith("optimizer.") and t.shape == head.shape]
    assert len(moments) == 2  # AdamW's: it was trained


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ({"freeze": ["eyes"]}, "expected the name of a module"),
        ({"weights": [0]}, "weights: expected numbers of at least 0, not all 0"),
        ({"objective": {"contrastive": 0.0, "captioning": 0.0}}, "expected a term with a weight"),
        ({"objective": {"sigmoid": 1.0}}, r"expected terms of the run, .*, got \['sigmoid'\]"),
    ],
)
def test_a_mistake_in_the_last_stage_is_found_at_once(make_run, shapes, tmp_path, last, message):
    with pytest.raises(ValueError, match=message):
        train(make_run(stages=[{"steps": 1}, {"steps": 1, **last}]), tmp_path / "run", shapes, device=CPU)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_what_a_stage_freezes_stays(make_run, shapes, tmp_path):
    first = train(make_run(stages=STAGES[:2]), tmp_path / "first", shapes, device=CPU)
    both = train(make_run(stages=STAGES), tmp_path / "both", shapes, device=CPU)
    before, after = load_file(first / "model.safetensors"), load_file(both / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith("decoder.")} - {"decoder.head.weight"}


def test_resume_starts_where_there_is_nothing_and_never_mixes_runs(finished, make_run, shapes, tmp_path):
    out = train(make_run(steps=1), tmp_path / "new", shapes, resume=True, device=CPU)
    assert len(losses(out)) == 1
    with pytest.raises(ValueError, match="expected a new folder, got one with a run in it"):
        train(make_run(), finished, shapes, device=CPU)
    with pytest.raises(ValueError, match="the run file has changed since"):
        train(make_run(seed=1), finished, shapes, resume=True, device=CPU)
    (out / "state.safetensors").write_bytes(b"no state")
    with pytest.raises(ValueError, match="expected the state of a run"):
        train(make_run(steps=1), out, shapes, resume=True, device=CPU)


def test_numbers_that_are_not_finite_stop_the_run_before_the_step(make_run, shapes, tmp_path):
    run = make_run(optimizer={"lr": 1e30, "warmup": 0, "weight_decay": 0.0}, checkpoint_every=1)
    with pytest.raises(TrainingError, match=r"step 1: expected finite numbers, got loss .*; samples: train/") as caught:
        train(run, tmp_path / "run", shapes, device=CPU)
    assert "and 8 more" in str(caught.value)
    state = load_file(tmp_path / "run" / "state.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())  # of step 0, which was finite
    assert [math.isfinite(loss) for loss in losses(tmp_path / "run")] == [True]


def test_a_decoder_alone_on_a_frozen_encoder(finished, make_run, shapes, tmp_path):
    run = make_run(start_from=str(finished), freeze=["encoders"], objective=[{"kind": "captioning"}], steps=2)
    out = train(run, tmp_path / "run", shapes, device=CPU)
    before, after = load_file(finished / "model.safetensors"), load_file(out / "model.safetensors")
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_dual_encoder_with_the_sigmoid_loss(precision, make_run, shapes, tmp_path):
    model = table()["model"]
    del model["decoder"]
    model |= {"kind": "dual_encoder", "logit_bias": -10.0}
    run = make_run(model=model, objective=[{"kind": "sigmoid"}], steps=3, precision=precision)
    out = train(run, tmp_path / "run", shapes, device=CPU)
    assert load(out, device=CPU).can == {"classify", "search"}
    assert all(math.isfinite(loss) for loss in losses(out))
    assert load(out, device=CPU).card["training"]["precision"] == precision


def test_the_logit_scale_stays_below_its_limit(make_run, shapes, tmp_path):
    model = table()["model"] | {"logit_scale": 4.6}
    run = make_run(model=model, optimizer={"lr": 0.5, "warmup": 0}, steps=4)
    out = train(run, tmp_path / "run", shapes, device=CPU)
    assert max(row["scale"] for row in metrics(out)) <= 100.001


def test_two_ranks_train_as_one(finished, shapes, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(table()))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"),
        *(str(Path(__file__).with_name("two_ranks.py")), str(tmp_path / "run.json"), str(shapes)),
        str(tmp_path / "out"),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=Path(__file__).parents[2])
    torch.testing.assert_close(losses(tmp_path / "out"), losses(finished), atol=1e-5, rtol=1e-5)
    ours, theirs = load_file(tmp_path / "out/state.safetensors"), load_file(finished / "state.safetensors")
    for name in theirs:
        if name.startswith("master."):
            torch.testing.assert_close(ours[name], theirs[name], atol=2e-4, rtol=1e-3)


def test_blip_trains_with_its_three_terms(make_run, shapes, tmp_path):
    model = table()["model"]
    text = model["encoders"]["text"] | {"causal": False, "pooling": "cls"}
    model = model | {"kind": "blip", "encoders": model["encoders"] | {"text": text}}
    objective = [{"kind": "contrastive"}, {"kind": "matching", "weight": 0.5}, {"kind": "captioning"}]
    out = train(make_run(model=model, objective=objective), tmp_path / "run", shapes, device=CPU)
    rows = [row for row in metrics(out) if "loss" in row]
    for row in rows:
        expected = row["contrastive"] + 0.5 * row["matching"] + row["captioning"]
        assert row["loss"] == pytest.approx(expected, rel=1e-5)
    assert rows[-1]["loss"] < rows[0]["loss"]
    model = load(out, device=CPU, dtype=torch.float32, verify=True)
    assert model.can == {"classify", "search", "caption", "match"}
    assert 0 < model.match(Image.new("RGB", (40, 40)), "a red circle").score < 1


@pytest.mark.filterwarnings("ignore:.* texts are longer than")
@pytest.mark.parametrize("context_length", [4, 5, 8, 12, 16, 17, 18])
def test_captioners_of_any_length_are_saved(context_length, make_run, shapes, tmp_path):
    inputs = {"text": {"kind": "bpe", "vocab_size": 300, "context_length": context_length}}
    out = train(make_run(steps=1, inputs=inputs), tmp_path / "run", shapes, device=CPU)
    model = load(out, device=CPU, dtype=torch.float32, verify=True)
    assert model.tokenizer.context_length == context_length


@dataclass(frozen=True)
class LossySettings(ImageTransform):
    def to_dict(self):
        return {"kind": "lossy", "image_size": self.image_size, "mean": [value / 2 for value in self.mean]}


@pytest.fixture
def lossy():
    PREPROCESSORS.register("lossy", LossySettings)
    yield
    PREPROCESSORS.unregister("lossy")


def with_image(table_: dict) -> dict:
    return {"inputs": table()["inputs"] | {"image": table_}}


def hf(**changes) -> dict:
    return {"inputs": {"text": {"kind": "hf", "context_length": 64, "pad_id": 0, "bos_id": 1, "eos_id": 2} | changes}}


@pytest.mark.filterwarnings("ignore:.* texts are longer than")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (with_image({"kind": "image", "image_size": 48}), "image.image_size: expected 32 as in the model, got 48"),
        (with_image({"kind": "lossy", "image_size": 32}), r"inputs.image: expected \{.*\}, got \{"),
        ({"card": {"born": datetime.date(2026, 1, 1)}}, "card: expected values that JSON can hold, got .*date"),
        ({"card": {"about": {"seen": {"a", "b"}}}}, "card: expected values that JSON can hold, got .*set"),
        ({"card": {"score": math.nan}}, "card: expected values that JSON can hold"),
        ({"card": {"about": "\ud800"}}, "surrogates not allowed"),
        (hf(bos_id=None), "tokenizer: expected a bos_id and an eos_id to generate with"),
        (hf(vocab_size=300, sha256={}, suffix=()), None),
    ],
)
def test_what_cannot_be_saved_is_found_before_the_first_step(lossy, make_run, shapes, tmp_path, changes, message):
    out = tmp_path / "run"
    out.mkdir()
    (out / "tokenizer.json").write_text(BPESettings(64, 300).train(["a red circle"]).tokenizer_json)
    if message is None:  # the same in a run that can be saved
        train(make_run(steps=1, **changes), out, shapes, device=CPU)
        assert load(out, device=CPU).can == {"classify", "search", "caption"}
    else:
        with pytest.raises(ValueError, match=message):
            train(make_run(steps=1, **changes), out, shapes, device=CPU)
        assert not (out / "metrics.jsonl").exists() or not metrics(out)
        assert not (out / "config.json").exists()
    assert not list(out.glob(".*"))


def test_folders_that_cannot_be_written(make_run, shapes, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to(tmp_path / "file" / "x")
    for out in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "broken", Path("/dev/null")):
        with pytest.raises(OSError, match=r"exists|directory"):
            train(make_run(), out, shapes, device=CPU)


def test_a_card_may_hold_what_another_model_says(finished, make_run, shapes, tmp_path):
    card = json.loads((finished / "config.json").read_text())["card"]
    run = make_run(steps=1, card=card | {"golden": {"caption": "x"}, "contract": {"a": 1}, "about": "A copy."})
    out = train(run, tmp_path / "run", shapes, device=CPU, evaluate=lambda model: Report())
    assert load(out, device=CPU, dtype=torch.float32, verify=True).card["about"] == "A copy."


BLIP_TEXT = {"kind": "text", "width": 32, "layers": 1, "heads": 2, "causal": False, "pooling": "cls"}


@pytest.mark.parametrize(
    ("kinds", "changes", "kind"),
    [
        (["contrastive"], {"batch_size": 1}, "contrastive"),
        (["contrastive", "captioning"], {"batch_size": 1}, "contrastive"),
        (["sigmoid"], {"batch_size": 1}, "sigmoid"),
        (["matching", "captioning"], {"batch_size": 1}, "matching"),
        (["contrastive"], {"stages": [{"steps": 1}, {"steps": 1, "batch_size": 1}]}, "contrastive"),
        (
            ["captioning", "matching"],
            {"batch_size": 1, "stages": [{"steps": 1, "objective": {"matching": 0.0}}, {"steps": 1}]},
            "matching",
        ),
    ],
)
def test_batches_from_which_a_term_cannot_learn(make_run, shapes, tmp_path, kinds, changes, kind):
    model = table()["model"] | {"kind": "blip", "logit_bias": -10.0}
    model["encoders"] = model["encoders"] | {"text": BLIP_TEXT}
    run = make_run(model=model, objective=[{"kind": kind} for kind in kinds], **changes)
    with pytest.raises(ValueError, match=f"batch_size: expected at least 2 for {kind}, got 1"):
        train(run, tmp_path / "run", shapes, device=CPU)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_batches_of_one_that_learn(make_run, shapes, tmp_path):
    objective = [{"kind": "captioning"}, {"kind": "classification"}, {"kind": "contrastive", "weight": 0.0}]
    out = train(make_run(batch_size=1, steps=2, objective=objective), tmp_path / "run", shapes, device=CPU)
    assert len(losses(out)) == 2


@pytest.mark.parametrize("damaged", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a\1\0\1\0"])
def test_unreadable_validation_samples_do_not_end_a_run(make_run, shapes, tmp_path, capsys, damaged):
    rows = [{"image": f"{i}.png", "caption": f"circle {i}"} for i in range(6)]
    for row in rows:
        Image.new("RGB", (40, 40), (40 * int(row["image"][0]), 0, 90)).save(tmp_path / row["image"])
    (tmp_path / "2.png").write_bytes(damaged)
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tables = [{"name": "own", "path": "data.jsonl", "tasks": ["search", "caption"]}]
    run = make_run(steps=2, evaluate_every=1, validation=tables)
    out = train(run, tmp_path / "run", shapes, device=CPU, evaluate=Validation(run.validation, tmp_path))
    assert [row["step"] for row in metrics(out) if "validation" in row] == [1, 2]
    assert {row["n"] for row in load(out, device=CPU).card["figures"]} == {5}
    assert "1 validation samples were rejected: own/2.png: " in capsys.readouterr().out

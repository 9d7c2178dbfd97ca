"""Wrong input: one line on stderr, exit code 2, nothing on stdout. Broken images are listed."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from tests.cli.conftest import RUN

LABELS = ("--labels", "cat,dog")


def refused(done, *words: str) -> None:
    assert done.code == 2
    assert done.out == ""
    assert done.line.startswith("multimodal: ")
    for word in words:
        assert word in done.line


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nothing"], "nothing"),
        (["--nothing"], "--nothing"),
        (["classify"], "IMAGES"),
        (["classify", "x.jpg"], "--labels"),
        (["classify", "x.jpg", "--labels"], "--labels"),
        (["classify", "x.jpg", "--labels", "a", "-k", "0"], "-k"),
        (["classify", "x.jpg", "--labels", "a", "-k", "many"], "-k"),
        (["classify", "x.jpg", "--labels", "a,,b"], "a,,b"),
        (["classify", "x.jpg", "--labels", "@no.txt"], "no.txt"),
        (["classify", "x.jpg", *LABELS], "x.jpg"),
        (["classify", "x/*.jpg", *LABELS], "x/*.jpg"),
        (["caption", "x.jpg"], "x.jpg"),
        (["caption", "x.jpg", "--strategy", "swim"], "swim"),
        (["caption", "x.jpg", "--strategy", "beam,fins=2"], "fins"),
        (["ask", "x.jpg", "what?", "--strategy", "beam,num_beams"], "strategy"),
        (["index", "x", "--out", "x.db"], "x"),
        (["index", "."], "--out"),
        (["search", "x.db", "a cat"], "x.db"),
        (["search", "x.db", " "], "x.db"),
        (["embed", "x.jpg", "--out", "x.npz"], "x.jpg"),
        (["shapes", "--out", "x", "--train", "0"], "--train"),
        (["train", "x.toml", "--out", "x"], "x.toml"),
        (["demo", "--photos", "x"], "x"),
    ],
    ids=" ".join,
)
def test_without_any_model(run, arguments, word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(run(*arguments), word)
    assert list(tmp_path.iterdir()) == []


def test_labels_and_templates(run, folder, photos, tmp_path):
    def classify(*more: str):
        return run("classify", photos / "0.png", "--model", folder, *more)

    refused(classify("--labels", "cat,cat"), "'cat'")
    refused(classify(*LABELS, "--templates", "no place"), "no place")
    (tmp_path / "empty.txt").write_text("\n")
    refused(classify("--labels", f"@{tmp_path / 'empty.txt'}"), "at least one")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    refused(classify("--labels", f"@{tmp_path / 'latin.txt'}"), "latin.txt", "UTF-8")


def test_models(run, spoiled, photos, tmp_path):
    def caption(model):
        return run("caption", photos / "0.png", "--model", model)

    refused(caption("no-such-model"), "no-such-model")
    refused(caption(photos), str(photos), "config.json")
    weights = spoiled / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    refused(caption(spoiled), "model.safetensors", "sha256")
    weights.unlink()
    refused(caption(spoiled), "model.safetensors")
    (spoiled / "config.json").write_text("{")
    refused(caption(spoiled), "config.json", "JSON")


def test_a_model_that_does_not_caption(run, other_folder, photos):
    refused(run("caption", photos, "--model", other_folder), "other", "caption")


@pytest.mark.parametrize("device", ["tpu", "meta", "cuda:99", "cpu:5"])
def test_devices(run, folder, photos, device):
    refused(run("caption", photos / "0.png", "--model", folder, "--device", device), "device", device)


def test_indexes(run, folder, photos, tmp_path):
    for name, data in (("text.db", b"hello"), ("cut.db", b"SQLite format 3\0" + bytes(2000))):
        (tmp_path / name).write_bytes(data)
        refused(run("search", tmp_path / name, "a cat", "--model", folder), name)
        refused(run("index", photos, "--out", tmp_path / name, "--model", folder), name)
        assert (tmp_path / name).read_bytes() == data
    refused(run("index", photos, "--out", photos, "--model", folder), str(photos))
    run("index", photos, "--out", tmp_path / "x.db", "--model", folder)
    refused(run("search", tmp_path / "x.db", photos / "no.png", "--image", "--model", folder), "no.png")


def test_unwritable_outputs(run, folder, photos):
    taken = photos / "0.png"
    refused(run("embed", photos, "--out", photos, "--model", folder), str(photos))
    refused(run("embed", photos, "--out", taken / "x.npz", "--model", folder), str(taken))
    refused(run("shapes", "--out", taken, "--train", 1, "--val", 1), str(taken))
    refused(run("demo", "--photos", photos, "--out", photos, "--model", folder), str(photos))


@pytest.mark.parametrize(
    ("text", "word"), [("name = ", "TOML"), ("name = 'x'", "'data'"), (f"nothing = 1\n{RUN}", "nothing")]
)
def test_run_files(run, tmp_path, text, word):
    (tmp_path / "run.toml").write_text(text)
    refused(run("train", tmp_path / "run.toml", "--out", tmp_path / "out"), word)
    assert not (tmp_path / "out").exists()


def test_a_single_broken_image(run, folder, bad):
    refused(run("classify", bad, *LABELS, "--model", folder), str(bad))


def test_a_broken_image_among_named_ones_is_listed_and_the_others_are_used(run, folder, photos, bad):
    done = run("classify", photos / "0.png", bad, photos / "1.png", *LABELS, "--model", folder, "--json")
    assert done.code == 1
    assert [result["image"] for result in done.json["results"]] == [str(photos / f"{i}.png") for i in (0, 1)]
    assert done.json["rejected"][0]["name"] == str(bad)
    assert done.line.startswith(f"multimodal: left out {bad}: ")


@pytest.mark.parametrize("command", ["classify", "caption", "embed", "index"])
def test_a_broken_image_in_a_folder_is_listed_and_the_others_are_used(run, folder, photos, bad, tmp_path, command):
    more = {
        "classify": LABELS,
        "caption": (),
        "embed": ("--out", tmp_path / "x.npz"),
        "index": ("--out", tmp_path / "x.db"),
    }
    done = run(command, photos, *more[command], "--model", folder, "--json")
    assert done.code == 0
    assert str(bad) in done.line
    assert done.json["rejected"][0]["name"] == str(bad)


def test_only_broken_images(run, folder, tmp_path):
    (tmp_path / "bad").mkdir()
    refused(run("classify", tmp_path / "bad", *LABELS, "--model", folder), "none")
    for name in ("a.png", "b.png"):
        (tmp_path / "bad" / name).write_bytes(b"x")
    done = run("classify", tmp_path / "bad", *LABELS, "--model", folder)
    assert (done.code, done.out) == (2, "")
    assert [name in done.err for name in ("a.png", "b.png", "got none among 2")] == [True] * 3


@pytest.mark.skipif(sys.platform == "win32", reason="such names are not allowed")
def test_strange_file_names_are_escaped(run, folder, photos):
    image = photos / "0.png"
    strange = photos / os.fsdecode(b"a\nb\x1b[31m\xff.png")
    image.rename(strange)
    done = run("caption", strange, "--model", folder)
    assert done.code == 0
    assert len(done.out.splitlines()) == 1
    assert r"a\nb\x1b[31m\udcff.png" in done.out
    done = run("caption", strange, "--model", folder, "--json")
    assert done.json["results"][0]["image"] == str(strange)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_ctrl_c_is_quiet(tmp_path, run):
    run("shapes", "--out", tmp_path / "shapes", "--train", 16, "--val", 8)
    (tmp_path / "run.toml").write_text(RUN.replace("steps = 2", "steps = 1000000"))
    command = ["train", tmp_path / "run.toml", "--out", tmp_path / "out", "--data", tmp_path / "shapes"]
    process = subprocess.Popen(
        [sys.executable, "-m", "multimodal.cli", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a parent such as nohup may ignore it
    )
    metrics = tmp_path / "out" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and metrics.stat().st_size:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert "--resume" in err.splitlines()[-1]

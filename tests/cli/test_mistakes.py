"""Wrong input: one line on stderr, exit code 2, nothing on stdout. Broken images are listed."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

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

    refused(classify("--labels", '"cat" sitting,dog'), "CSV")
    refused(classify("--labels", 'cat,"dog'), "CSV")
    refused(classify("--labels", ""), "separated by commas")
    refused(classify(*LABELS, "--labels", "@no.txt"), "no.txt")
    refused(classify("--labels", "bird,@no.txt"), "no.txt")
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
    assert done.json["results"][0]["image"] == str(strange).replace("\udcff", r"\udcff")


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


@pytest.fixture(params=["fifo", "device", "link to a device"])
def irregular(request, tmp_path):
    """A path that is no regular file, as something other than which it must not end."""
    path = tmp_path / "out"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "device":
        path = Path(os.devnull)
    else:
        path.symlink_to(os.devnull)
    mode = path.stat().st_mode
    yield path
    assert path.stat().st_mode == mode
    assert path.is_symlink() == request.param.startswith("link")


@pytest.mark.skipif(sys.platform == "win32", reason="no such files")
@pytest.mark.parametrize("command", ["embed", "index", "demo", "shapes", "convert", "download", "train"])
def test_outputs_that_are_no_regular_files(run, folder, photos, tmp_path, irregular, command):
    (tmp_path / "run.toml").write_text(RUN)
    arguments = {
        "embed": (photos, "--out", irregular, "--model", folder),
        "index": (photos, "--out", irregular, "--model", folder),
        "demo": ("--photos", photos, "--out", irregular, "--model", folder),
        "shapes": ("--out", irregular, "--train", 1, "--val", 1),
        "convert": (folder, "--to", irregular),
        "download": ("ViT-B-32:openai", "--to", irregular),
        "train": (tmp_path / "run.toml", "--data", tmp_path, "--out", irregular),
    }
    done = run(command, *arguments[command])
    refused(done)
    assert command == "download" or irregular.name in done.line or os.devnull in done.line


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights")
@pytest.mark.parametrize("command", ["embed", "index", "demo"])
@pytest.mark.parametrize("kind", ["link", "dangling link"])
def test_outputs_go_through_links(run, folder, photos, tmp_path, command, kind):
    real, link = tmp_path / "real", tmp_path / "link"
    if kind == "link" and command != "index":
        real.write_bytes(b"old")
    elif kind == "link":
        real.touch()
    link.symlink_to(real)
    flag = ("--photos",) if command == "demo" else ()
    assert run(command, *flag, photos, "--out", link, "--model", folder).code == 0
    assert link.is_symlink()
    assert real.read_bytes()[:4] == {"embed": b"PK\3\4", "index": b"SQLi", "demo": b"<!do"}[command]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1, 0.3, 0.6])
def test_ctrl_c_twice_leaves_the_index_whole(run, folder, draw, tmp_path, delay):
    for i in range(300):
        draw(tmp_path / "many" / f"{i}.png", i, size=(400, 300))
    out = tmp_path / "x.db"
    command = ["index", tmp_path / "many", "--out", out, "--model", folder]
    process = subprocess.Popen(
        [sys.executable, "-m", "multimodal.cli", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not out.exists():
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    time.sleep(delay / 4)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT, 0)  # 0: it was done already
    done = run(*command, "--json")
    assert done.code == 0, done.err
    assert done.json["images"] == 300
    assert done.json["embedded"] + done.json["known"] == 300
    assert not out.with_name("x.db-journal").exists()


@pytest.mark.parametrize("others", ["same", "another folder", "another model"])
def test_two_processes_that_create_one_index(folder, other_folder, photos, draw, tmp_path, others):
    draw(tmp_path / "others" / "1.png", 1)
    second = tmp_path / "others" if others == "another folder" else photos
    model = other_folder if others == "another model" else folder
    out = tmp_path / "x.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "multimodal.cli", "index", images, "--out", out, "--model", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for images, name in ((photos, folder), (second, model))
    ]
    done = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    losers = [err for _, err, code in done if code]
    assert all(code in (0, 2) for *_, code in done), done
    assert len(losers) == (others != "same"), done
    for line in losers:
        assert len(line.splitlines()) == 1
        assert "expected the index of" in line or "with which the index was built" in line

"""What commands print, where, and with which exit code."""

import importlib
import io
import os
import re
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import multimodal
from multimodal.cli import COMMANDS, main
from multimodal.generation import Beam, Greedy
from multimodal.results import to_plain
from tests.cli.conftest import RUN

NAMES = [command.__name__ for command in COMMANDS]


def test_the_public_list():
    assert all(hasattr(multimodal, name) for name in multimodal.__all__)
    assert {"load", "models", "Index", "Model", "Classification", "Caption", "Hit"} <= set(multimodal.__all__)
    assert callable(multimodal.models)  # the function, although a room has this name too
    assert importlib.import_module("multimodal.models") is not multimodal.models
    assert set(multimodal.__all__) <= set(dir(multimodal))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        multimodal.nothing  # noqa: B018
    assert version("multimodal-models") == multimodal.__version__


def test_without_arguments_it_lists_the_commands(run):
    done = run()
    assert done.code == 0
    assert done.err == ""
    assert [line.split()[0] for line in done.out.split("Commands:\n")[1].splitlines()] == NAMES
    assert run("--version").out == f"multimodal {multimodal.__version__}\n"


@pytest.mark.parametrize("name", NAMES)
def test_help_has_examples(run, name):
    done = run(name, "--help")
    assert done.code == 0
    examples = done.out.split("Examples:\n")[1].split("\n\n")[0].splitlines()
    assert any(line.startswith(f"    multimodal {name}") for line in examples)
    assert "\n  --json" in done.out
    modelless = ("shapes", "train", "evaluate", "models", "download", "convert", "verify")
    assert ("\n  --model" in done.out) == (name not in modelless)
    assert ("\n  --device" in done.out) == (name in ("train", "evaluate") or name not in modelless)


def test_classify(run, folder, photos):
    image = photos / "0.png"
    done = run("classify", image, "--labels", "cat, dog,fox", "--model", folder)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{image}: ")
    [result] = run("classify", image, "--labels", "cat, dog,fox", "--model", folder, "--json").json["results"]
    assert result["image"] == str(image)
    assert set(result["scores"]) == {"cat", "dog", "fox"}
    assert sum(result["scores"].values()) == pytest.approx(1)
    assert result["label"] == next(iter(result["scores"]))
    expected = multimodal.load(folder, device="cpu").classify(image, ["cat", "dog", "fox"])
    assert result == expected.to_dict()


def test_classify_of_a_folder_with_the_best_two(run, folder, photos):
    done = run("classify", photos, "--labels", "cat,dog,fox", "-k", 2, "--model", folder, "--json")
    assert [len(result["scores"]) for result in done.json["results"]] == [2] * 6
    assert done.json["rejected"] == []


def test_labels_from_a_file_and_templates(run, folder, photos, tmp_path):
    (tmp_path / "labels.txt").write_text("cat\n\n big dog \n")
    labels = ("--labels", f"@{tmp_path / 'labels.txt'}", "--model", folder, "--json")
    plain = run("classify", photos / "0.png", *labels).json["results"][0]["scores"]
    shouted = run("classify", photos / "0.png", *labels, "--templates", "{}!", "--templates", "LOOK, {}")
    assert set(plain) == set(shouted.json["results"][0]["scores"]) == {"cat", "big dog"}
    assert plain != shouted.json["results"][0]["scores"]


def test_caption(run, folder, photos):
    greedy = ("--strategy", "greedy,max_new_tokens=4", "--model", folder)
    done = run("caption", photos / "0.png", photos / "1.png", *greedy)
    assert (done.code, done.err) == (0, "")
    model = multimodal.load(folder, device="cpu")
    expected = model.caption([photos / "0.png", photos / "1.png"], strategy=Greedy(max_new_tokens=4))
    assert [line.rstrip() for line in done.out.split("\n")] == [*(str(c).rstrip() for c in expected), ""]
    beams = run("caption", photos / "0.png", "--strategy", "beam,num_beams=2", "--model", folder, "--json")
    assert beams.json["results"] == [model.caption(photos / "0.png", strategy=Beam(num_beams=2)).to_dict()]


def test_embed(run, folder, photos, tmp_path):
    out = tmp_path / "new" / "x.npz"
    done = run("embed", photos, "--out", out, "--model", folder, "--json")
    assert done.code == 0
    assert (done.json["embedded"], done.json["dim"]) == (6, 16)
    model = multimodal.load(folder, device="cpu")
    with np.load(out) as held:  # contains no pickles
        assert np.array_equal(held["embeddings"], model.embed_images(photos).numpy())
        assert held["names"].tolist() == [
            str(photos / name) for name in ("0.png", "1.png", "2.png", "3.png", "sub folder/4.png", "sub folder/5.png")
        ]
        assert str(held["fingerprint"]) == model.fingerprint == done.json["fingerprint"]


def test_index_and_search(run, folder, photos, draw, tmp_path):
    database = tmp_path / "photos.db"
    first = run("index", photos, "--out", database, "--model", folder)
    assert (first.code, first.err) == (0, "")
    assert "6 images (6 embedded, 0 known, 0 dropped, 0 left out)" in first.out
    draw(photos / "new.png", 99)
    (photos / "0.png").unlink()
    again = run("index", photos, "--out", database, "--model", folder, "--json").json
    assert {key: again[key] for key in ("images", "embedded", "known", "dropped")} == {
        "images": 6,
        "embedded": 1,
        "known": 5,
        "dropped": 1,
    }
    found = run("search", database, "a cat", "-k", 3, "--model", folder, "--json").json["results"]
    with multimodal.Index.open(database, multimodal.load(folder, device="cpu")) as index:
        assert found == index.search("a cat", 3).to_dict()["results"]
    by_image = run("search", database, photos / "new.png", "--image", "-k", 1, "--model", folder)
    assert by_image.out == f"1.000  {photos / 'new.png'}\n"


def test_search_with_another_model_names_both(run, folder, other_folder, photos, tmp_path):
    run("index", photos, "--out", tmp_path / "x.db", "--model", folder)
    done = run("search", tmp_path / "x.db", "a cat", "--model", other_folder)
    assert done.code == 2
    assert "tiny" in done.line
    assert "other" in done.line


def test_shapes_and_train(run, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("shapes", "--out", tmp_path / "shapes", "--train", 24, "--val", 8, "--json")
    assert (done.json["train"], done.json["val"]) == (24, 8)
    (tmp_path / "run.toml").write_text(RUN)
    command = ("train", tmp_path / "run.toml", "--data", tmp_path / "shapes")
    done = run(*command, "--device", "cpu", "--json")
    assert done.code == 0
    assert done.json["training"]["steps"] == 2
    assert {(row["dataset"], row["unit"]) for row in done.json["figures"] if row["measure"] != "ECE"} == {
        ("shapes", "share")
    }
    assert (tmp_path / "runs" / "tiny" / "metrics.jsonl").stat().st_size
    again = run(*command, "--device", "cpu")
    assert again.code == 2
    assert "resume" in again.line
    out = tmp_path / "runs" / "tiny"
    resumed = run(*command, "--out", out, "--device", "cpu", "--resume")
    assert resumed.code == 0
    assert re.fullmatch(r"shapes: zero_shot_top1 \d+\.\d %", resumed.out.splitlines()[0])
    assert resumed.out.splitlines()[-1].endswith(f"--model {out}")
    used = run("classify", photos / "0.png", "--labels", "red,blue", "--model", out, "--json")
    assert used.json["results"][0]["label"] in ("red", "blue")


def test_models_lists_what_load_knows(run):
    listed = run("models", "--json").json["models"]
    assert listed == multimodal.models().to_dict()["models"]
    assert listed[0]["name"] == "small"
    lines = run("models").out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [entry["name"] for entry in listed]
    captions = run("models", "--can", "caption").out.splitlines()
    assert 2 < len(captions) < len(lines)
    assert all("caption" in line for line in captions)
    assert "metaclip" in run("models", "--family", "MetaCLIP").out
    refused = run("models", "--can", "fly")
    assert (refused.code, refused.out) == (2, "")
    assert "expected one of ['answer', 'caption', 'classify', 'match', 'search'], got 'fly'" in refused.line


@pytest.mark.parametrize("width", [80, 120])
def test_models_on_a_terminal(run, monkeypatch, width):
    """Names are never cut, so that they can be copied; tags are cut unless a family is asked for."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    lines = plain(run("models").out).splitlines()
    assert max(map(len, lines)) <= width
    for entry in multimodal.models():
        assert any(line.startswith(f"  {entry.name} ") for line in lines), entry.name
    assert lines[0].split() == ["in", "the", "package", "can", "classify,", "search,", "caption"]
    assert lines[-1].startswith(f"{len(multimodal.models())} models with ")
    shown = re.sub(r"\s", "", plain(run("models", "--family", "coca").out))
    assert "mscoco_finetuned_laion2b_s13b_b90k" in shown


def test_convert_and_verify(run, tmp_path):
    from tests.zoo.checkpoints import saved_clip

    theirs = saved_clip(tmp_path / "clip")
    done = run("convert", theirs, "--to", tmp_path / "ours", "--json")
    assert (done.code, done.json["folder"]) == (0, str(tmp_path / "ours"))
    done = run("verify", tmp_path / "ours", "--json")
    assert done.json["verified"] == ["image_embedding", "text_embedding"]
    assert "reproduces its recorded outputs" in run("verify", tmp_path / "ours").out
    again = run("convert", theirs, "--to", tmp_path / "ours")
    assert (again.code, again.out) == (2, "")
    assert "expected a new folder" in again.line
    unverified = run("verify", theirs)
    assert unverified.code == 2
    assert "expected golden vectors" in unverified.line


def test_classify_with_a_third_party_folder(run, photos, tmp_path):
    from tests.zoo.checkpoints import saved_clip

    folder = saved_clip(tmp_path / "clip")
    done = run("classify", photos / "0.png", "--labels", "cat,dog", "--model", folder, "--json")
    [result] = done.json["results"]
    expected = multimodal.load(folder).classify(photos / "0.png", ["cat", "dog"])
    assert result == expected.to_dict()
    done = run("caption", photos / "0.png", "--model", folder)
    assert (done.code, done.out) == (2, "")
    assert "caption" in done.line


def test_ask_match_and_rerank(run, photos, tmp_path, monkeypatch):
    from tests.zoo.checkpoints import saved_blip

    answerer = saved_blip(tmp_path / "vqa", "ForQuestionAnswering")
    model = multimodal.load(answerer)
    done = run("ask", photos / "0.png", "what is it?", "--model", answerer, "--json")
    assert done.json["results"] == [model.answer(photos / "0.png", "what is it?").to_dict()]
    beam = ("--strategy", "beam,num_beams=2,max_new_tokens=3")
    done = run("ask", photos / "0.png", "what is it?", *beam, "--model", answerer, "--json")
    expected = model.answer(photos / "0.png", "what is it?", strategy=Beam(num_beams=2, max_new_tokens=3))
    assert done.json["results"] == [expected.to_dict()]
    matcher = saved_blip(tmp_path / "itm", "ForImageTextRetrieval")
    model = multimodal.load(matcher)
    done = run("match", photos, "a cat", "--model", matcher, "--json")
    assert done.json["results"] == model.match(photos, "a cat").to_dict()["results"]
    for command, name in (("ask", answerer), ("match", matcher)):
        feed(monkeypatch, f"{photos / '0.png'}\n{photos / 'sub folder' / '4.png'}\n".encode())
        found = run(command, photos / "1.png", "-", "a cat", "--model", name, "--json").json["results"]
        assert [Path(result["image"]).name for result in found] == ["1.png", "0.png", "4.png"]
    run("index", photos, "--out", tmp_path / "x.db", "--model", matcher)
    found = run("search", tmp_path / "x.db", "a cat", "--rerank", 6, "-k", 6, "--model", matcher, "--json")
    scores = {result["image"]: result["score"] for result in done.json["results"]}
    best = sorted(scores.values(), reverse=True)
    assert [hit["score"] for hit in found.json["results"]] == pytest.approx(best, abs=1e-4)
    for command in ("ask", "match"):
        refused = run(command, photos / "0.png", "what?", "--model", "small")
        assert (refused.code, refused.out) == (2, "")
        assert "'small'" in refused.line


def test_warnings_are_lines(run, folder, photos, tmp_path):
    run("index", photos, "--out", tmp_path / "x.db", "--model", folder)
    before = warnings.showwarning, list(warnings.filters)
    done = run("search", tmp_path / "x.db", "word " * 100, "--model", folder)
    assert done.code == 0
    assert done.line.startswith("multimodal: 1 of 1 texts")
    assert (warnings.showwarning, list(warnings.filters)) == before


def test_on_a_terminal_there_are_tables(run, folder, photos, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich assumes a terminal
    for width in ("30", "100"):
        monkeypatch.setenv("COLUMNS", width)
        done = run("classify", photos, "--labels", "cat,dog", "--model", folder)
        assert "━" in done.out or "█" in done.out
        assert max(len(line) for line in plain(done.out).splitlines()) <= int(width)
        assert "0.png" in plain(run("caption", photos, "--model", folder).out).replace("\n", "")


def plain(text: str) -> str:
    """`text` without terminal codes."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_closed_pipe_is_no_error():
    """`multimodal models | true`"""
    process = subprocess.Popen(
        [sys.executable, "-m", "multimodal.cli", "models", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert (process.wait(timeout=120), err) == (1, b"")
    process.stderr.close()


def test_an_unexpected_error_keeps_its_traceback():
    with pytest.raises(TypeError):
        main([5])  # type: ignore[list-item]


LABELS = {
    "two options": (["--labels", "cat", "--labels", "dog"], ["cat", "dog"]),
    "three, one of them a list": (["--labels", "cat", "--labels", "dog, bird", "--labels", "fox"], "cat dog bird fox"),
    "quotes": (["--labels", '"cat, sitting",dog'], ["cat, sitting", "dog"]),
    "quotes in quotes": (["--labels", '"a ""big"" cat", dog'], ['a "big" cat', "dog"]),
    "a quote within": (["--labels", "5\" nail,dog's ball"], ['5" nail', "dog's ball"]),
    "blanks": (["--labels", ' cat , "dog",bird '], ["cat", "dog", "bird"]),
    "a file": (["--labels", "@{file}"], ["dog, lying", "fox"]),
    "a file and labels": (["--labels", "@{file}", "--labels", "cat"], ["dog, lying", "fox", "cat"]),
    "a file in a list": (["--labels", "cat,@{file},bird"], ["cat", "dog, lying", "fox", "bird"]),
    "two files": (["--labels", "@{file}", "--labels", '"@{comma}"'], ["dog, lying", "fox", "cat"]),
    "a comma in its name": (["--labels", '"@{comma}",bird'], ["cat", "bird"]),
}


@pytest.mark.parametrize(("arguments", "labels"), LABELS.values(), ids=LABELS)
def test_labels_add_up(run, folder, photos, tmp_path, monkeypatch, arguments, labels):
    monkeypatch.chdir(tmp_path)
    Path("labels.txt").write_text("\ufeffdog, lying\r\n\n  fox \n", encoding="utf-8")
    Path("a,b.txt").write_text("cat\n")
    arguments = [each.format(file="labels.txt", comma="a,b.txt") for each in arguments]
    found = run("classify", photos / "0.png", *arguments, "--model", folder, "--json").json["results"][0]["scores"]
    assert sorted(found) == sorted(labels.split() if isinstance(labels, str) else labels)
    if "@labels.txt" not in arguments:
        done = run("demo", "--photos", photos, "--out", "demo.html", *arguments, "--model", folder)
        assert done.code == 0
        assert f"{len(found)} labels" in Path("demo.html").read_text(encoding="utf-8")


def test_a_label_that_is_given_twice(run, folder, photos):
    done = run("classify", photos / "0.png", "--labels", "cat,dog", "--labels", "cat", "--model", folder, "--json")
    assert "'cat'" in done.line
    assert sorted(done.json["results"][0]["scores"]) == ["cat", "cat #2", "dog"]


def feed(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
@pytest.mark.parametrize("command", ["classify", "caption", "embed"])
def test_images_from_stdin(run, folder, photos, tmp_path, monkeypatch, command, end):
    strange = photos / "sub folder" / os.fsdecode(b"caf\xe9 1.png")
    (photos / "1.png").rename(strange)
    names = [photos / "0.png", strange, photos / "2.png"]
    more = {"classify": ("--labels", "cat,dog"), "caption": (), "embed": ("--out", tmp_path / "x.npz")}[command]
    feed(monkeypatch, end.join(os.fsencode(name) for name in names) + end)
    done = run(command, photos / "3.png", "-", *more, "--model", folder, "--json")
    assert done.code == 0
    if command == "embed":
        assert done.json["embedded"] == 4
        with np.load(tmp_path / "x.npz") as file:
            assert file["names"].tolist() == [str(photos / "3.png"), *map(str, names)]
    else:
        listed = [result["image"] for result in done.json["results"]]
        assert listed == [str(photos / "3.png"), *(to_plain(str(name)) for name in names)]
    feed(monkeypatch, b"")
    done = run(command, "-", *more, "--model", folder)
    assert (done.code, "found none on stdin" in done.line) == (2, True)
    feed(monkeypatch, b"no.png\n")
    assert "no.png" in run(command, "-", *more, "--model", folder).line
    (photos / "0.png").write_bytes(b"broken")
    feed(monkeypatch, b"\n".join(os.fsencode(name) for name in names))
    assert run(command, "-", *more, "--model", folder).code == 1  # an image that was named is left out

"""Names of hubs: what is downloaded, what is checked, and what is left when it goes wrong.

The hub is a server on this machine, and what asks it is huggingface_hub itself, pointed there.
"""

import os
import re
import shutil
import subprocess
import sys
import termios
from pathlib import Path

import open_clip
import pytest
import torch

from multimodal.zoo import download, load
from multimodal.zoo.hub import locate
from tests.zoo.checkpoints import saved_clip, saved_open_clip
from tests.zoo.hub_server import Hub, running, sha256

NAME = "people/clip"
SETTINGS = {"config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = saved_clip(tmp_path_factory.mktemp("hub") / "clip")
    (folder / "pytorch_model.bin").write_bytes(b"worse than safetensors")
    (folder / "README.md").write_text("what nobody needs for loading")
    return folder


@pytest.fixture
def hub(checkpoint, tmp_path, monkeypatch):
    """A hub with one repository, and an empty cache."""
    from huggingface_hub import constants

    with running() as hub:
        hub.folders[NAME] = checkpoint
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


@pytest.fixture
def nowhere(hub):
    """No network: nobody listens any more, and the cache stays."""
    hub.shutdown()
    hub.server_close()
    return hub


def refused(kind: type[Exception], *words: str, name: str = NAME) -> None:
    with pytest.raises(kind) as caught:
        load(name, device="cpu")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for word in (name, *words):
        assert word in message


def test_what_is_needed_is_downloaded_once(hub, checkpoint):
    model = load(NAME, device="cpu")
    assert hub.downloaded == SETTINGS | {"model.safetensors"}
    hub.log.clear()
    again = load(f"hf-hub:{NAME}", device="cpu")
    assert hub.log == []
    expected = load(checkpoint, device="cpu")
    assert hub.log == []  # of a folder nobody is asked either
    for found in (model, again):
        assert torch.equal(found.embed_texts(["a cat"]), expected.embed_texts(["a cat"]))


def test_without_a_network_the_cache_is_enough(hub):
    before = load(NAME, device="cpu").fingerprint
    hub.shutdown()
    hub.server_close()
    assert load(NAME, device="cpu").fingerprint == before


def test_a_pickle_is_downloaded_where_there_is_nothing_better(hub, checkpoint, tmp_path):
    from safetensors.torch import load_file

    folder = shutil.copytree(checkpoint, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    hub.folders["people/old"] = folder
    found, expected = load("people/old", device="cpu"), load(checkpoint, device="cpu")
    assert found.fingerprint == expected.fingerprint
    assert "pytorch_model.bin" in hub.downloaded


def test_shards_are_downloaded_all(hub, checkpoint, tmp_path):
    from transformers import CLIPModel

    folder = shutil.copytree(checkpoint, tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    CLIPModel.from_pretrained(checkpoint).save_pretrained(folder, max_shard_size="1MB")
    (folder / "other.safetensors").write_bytes(b"of something else")
    hub.folders["people/sharded"] = folder
    shards = {path.name for path in folder.glob("model-*.safetensors")}
    assert len(shards) > 1
    found = load("people/sharded", device="cpu")
    assert found.fingerprint == load(checkpoint, device="cpu").fingerprint
    assert hub.downloaded == SETTINGS | shards | {"model.safetensors.index.json"}
    hub.log.clear()
    next(path for path in locate("people/sharded").weights.iterdir() if path.name in shards).unlink()
    load("people/sharded", device="cpu")  # a cache without one of them is no cache
    assert hub.log


def test_another_hash_is_refused_and_removed(hub, checkpoint):
    hub.spoiled.add("model.safetensors")
    expected = sha256(checkpoint / "model.safetensors")
    with pytest.raises(
        ValueError, match=f"model.safetensors: expected sha256 {expected}, .*, got [0-9a-f]{{64}}"
    ):
        load(NAME, device="cpu")
    hub.log.clear()
    with pytest.raises(ValueError, match="expected sha256"):
        load(NAME, device="cpu")
    assert hub.downloaded == {"model.safetensors"}  # again, as nothing of it was kept
    hub.spoiled.clear()
    load(NAME, device="cpu", verify=False)


def test_a_download_that_was_cut_is_done_again(hub, tmp_path):
    hub.cut["model.safetensors"] = 1000
    refused(FileNotFoundError, "503")
    assert not [
        path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size == 1000
    ]
    refused(FileNotFoundError, "503")
    hub.cut.clear()
    assert load(NAME, device="cpu").can == {"classify", "search"}


def test_what_another_program_left_out_of_the_cache_is_fetched(hub):
    from huggingface_hub import hf_hub_download

    for name in ("config.json", "model.safetensors"):
        hf_hub_download(NAME, name)
    assert load(NAME, device="cpu").can == {"classify", "search"}
    assert hub.downloaded == SETTINGS | {"model.safetensors"}


def test_a_repository_that_asks_for_consent(hub):
    hub.gated.add(NAME)
    refused(FileNotFoundError, "asks for consent", f"huggingface.co/{NAME}", "hf auth login")


def test_a_repository_that_is_not_there(hub):
    refused(FileNotFoundError, "expected a folder or file here, or a repository", name="people/nothing")


def test_a_repository_without_weights(hub, tmp_path):
    hub.folders["people/empty"] = tmp_path
    (tmp_path / "README.md").touch()
    refused(FileNotFoundError, "expected model.safetensors or", "README.md", name="people/empty")


def test_without_a_network_it_is_said_what_to_put_where(nowhere):
    refused(
        FileNotFoundError,
        f"`multimodal download {NAME} --to FOLDER`",
        "model.safetensors",
        "load that FOLDER",
    )
    tag = "ViT-B-32:laion2b_s34b_b79k"
    refused(
        FileNotFoundError, f"`multimodal download {tag} --to FOLDER`", "open_clip_model.safetensors", name=tag
    )


def test_a_folder_never_asks(hub, checkpoint, monkeypatch):
    import socket

    asked = []

    def connect(_, address):
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    load(checkpoint, device="cpu")
    load("small", device="cpu")
    assert asked == []
    refused(FileNotFoundError, name="people/other")
    assert asked  # the guard is one


# Names of open_clip


def test_a_tag_finds_its_file(hub, tmp_path):
    repo = open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")["hf_hub"].rstrip("/")
    folder = tmp_path / "laion"
    folder.mkdir()
    for name in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors"):
        (folder / name).write_bytes(name.encode())
    hub.folders[repo] = folder
    found = locate("ViT-B-32:laion2b_s34b_b79k")
    assert found.weights.read_bytes() == b"open_clip_model.safetensors"
    assert hub.downloaded == {"open_clip_model.safetensors"}
    assert found.architecture == "ViT-B-32"
    assert found.preprocess["mean"] == open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")["mean"]
    repo, _, file = open_clip.get_pretrained_cfg("ViTamin-S", "datacomp1b")["hf_hub"].rpartition("/")
    hub.folders[repo] = tmp_path / "vitamin"
    hub.folders[repo].mkdir()
    (hub.folders[repo] / file).write_bytes(b"named")
    assert locate("ViTamin-S:datacomp1b").weights.name == file


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "ViT-B-32:nobody",
            r"ViT-B-32:nobody: expected a tag of ViT-B-32, such as \['openai', .*\], got 'nobody'",
        ),
        ("ViT-Z:openai", "ViT-Z:openai: expected an architecture of open_clip, got 'ViT-Z'"),
    ],
)
def test_tags_that_nobody_knows(hub, name, told):
    with pytest.raises(FileNotFoundError, match=told):
        load(name)
    assert hub.log == []


def test_all_of_open_clip_is_on_hubs():
    """So that there is one way to download."""
    for name, tag in open_clip.list_pretrained():
        assert open_clip.get_pretrained_cfg(name, tag).get("hf_hub"), (name, tag)


# Folders for elsewhere


def test_download_makes_a_folder_that_loads(hub, checkpoint, tmp_path):
    files = download(NAME, tmp_path / "new" / "clip")
    assert {path.name for path in files} == SETTINGS | {"model.safetensors"}
    hub.log.clear()
    found = load(tmp_path / "new" / "clip", device="cpu")
    assert hub.log == []
    assert found.fingerprint == load(checkpoint, device="cpu").fingerprint
    with pytest.raises(ValueError, match=r"to: expected a new folder, got .*, which is there"):
        download(NAME, tmp_path / "new" / "clip")


def test_download_of_a_tag_says_what_it_is(hub, tmp_path):
    """A file alone, as under most tags, gets the config that open_clip has for its architecture."""
    repo = open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")["hf_hub"].rstrip("/")
    hub.folders[repo] = saved_open_clip(tmp_path / "laion")
    (tmp_path / "laion" / "open_clip_config.json").unlink()
    (tmp_path / "laion" / "model.safetensors").write_bytes(b"in the format of transformers")
    download("ViT-B-32:laion2b_s34b_b79k", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "open_clip_model.safetensors",
        "open_clip_config.json",
    }
    with pytest.raises(ValueError, match=r"image_size: expected 64, .* got 224"):  # those of a smaller model
        load(tmp_path / "out", device="cpu")


def test_a_download_that_fails_leaves_no_folder(hub, tmp_path):
    hub.cut["model.safetensors"] = 1000
    with pytest.raises(FileNotFoundError, match="503"):
        download(NAME, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_the_command_with_the_settings_of_the_hub(hub: Hub, tmp_path):
    """HF_ENDPOINT and HF_HOME are read by huggingface_hub; the bar is its own."""
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    environment.pop("HF_HUB_CACHE", None)
    command = [sys.executable, "-m", "multimodal.cli", "download", NAME, "--to", str(tmp_path / "clip")]
    terminal, stderr = os.openpty()
    termios.tcsetwinsize(stderr, (24, 100))
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=120
    )
    assert done.stdout.startswith(f"{tmp_path / 'clip'}: 5 files, ")
    assert re.search(rb"model.safetensors:? +100%", os.read(terminal, 100_000))
    os.close(terminal)
    os.close(stderr)
    assert (tmp_path / "home" / "hub" / "models--people--clip").is_dir()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith("multimodal: to: expected a new folder")

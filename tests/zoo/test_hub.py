"""Names on hubs: what is downloaded, what is checked, and what remains after an error.

The hub is a server on this machine, to which huggingface_hub is redirected.
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
from multimodal.zoo.weights import weights_sha256
from tests.zoo.checkpoints import saved_open_clip
from tests.zoo.hub_server import Hub, running, sha256

NAME = "people/clip"
SETTINGS = {"config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory) -> Path:
    folder = Path(shutil.copytree(checkpoint("clip"), tmp_path_factory.mktemp("hub") / "clip"))
    (folder / "pytorch_model.bin").write_bytes(b"less safe than safetensors")
    (folder / "README.md").write_text("not needed for loading")
    return folder


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """A hub with one repository, and an empty cache."""
    from huggingface_hub import constants

    with running() as hub:
        hub.folders[NAME] = folder
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


@pytest.fixture
def nowhere(hub):
    """No network; the cache remains."""
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


def test_only_needed_files_are_downloaded_and_only_once(hub, folder):
    model = load(NAME, device="cpu")
    assert hub.downloaded == SETTINGS | {"model.safetensors"}
    hub.log.clear()
    again = load(f"hf-hub:{NAME}", device="cpu")
    assert hub.log == []
    expected = load(folder, device="cpu")
    assert hub.log == []  # a folder does not ask the hub, either
    for found in (model, again):
        assert torch.equal(found.embed_texts(["a cat"]), expected.embed_texts(["a cat"]))


def test_without_a_network_the_cache_is_enough(hub):
    before = load(NAME, device="cpu").fingerprint
    hub.shutdown()
    hub.server_close()
    assert load(NAME, device="cpu").fingerprint == before


def test_a_pickle_is_downloaded_without_an_alternative(hub, folder, tmp_path):
    from safetensors.torch import load_file

    pickled = shutil.copytree(folder, tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    hub.folders["people/old"] = pickled
    found, expected = load("people/old", device="cpu"), load(folder, device="cpu")
    assert found.fingerprint == expected.fingerprint
    assert "pytorch_model.bin" in hub.downloaded


def test_all_shards_are_downloaded(hub, folder, tmp_path):
    from transformers import CLIPModel

    sharded = shutil.copytree(folder, tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    CLIPModel.from_pretrained(folder).save_pretrained(sharded, max_shard_size="100KB")
    (sharded / "other.safetensors").write_bytes(b"another model")
    hub.folders["people/sharded"] = sharded
    shards = {path.name for path in sharded.glob("model-*.safetensors")}
    assert len(shards) > 1
    found = load("people/sharded", device="cpu")
    assert found.fingerprint == load(folder, device="cpu").fingerprint
    assert hub.downloaded == SETTINGS | shards | {"model.safetensors.index.json"}
    index = locate("people/sharded").path / "model.safetensors.index.json"
    assert found.card["contract"]["weights_sha256"] == weights_sha256(index) != sha256(index)
    hub.log.clear()
    next(path for path in locate("people/sharded").path.iterdir() if path.name in shards).unlink()
    load("people/sharded", device="cpu")  # a cache without one of them is incomplete
    assert hub.log


def test_another_hash_is_refused_and_removed(hub, folder):
    hub.spoiled.add("model.safetensors")
    expected = sha256(folder / "model.safetensors")
    with pytest.raises(
        ValueError, match=f"model.safetensors: expected sha256 {expected} as on the hub, got [0-9a-f]{{64}}"
    ):
        load(NAME, device="cpu")
    hub.log.clear()
    with pytest.raises(ValueError, match="expected sha256"):
        load(NAME, device="cpu")
    assert hub.downloaded == {"model.safetensors"}  # again, because nothing was kept
    hub.spoiled.clear()
    load(NAME, device="cpu", verify=False)


def test_an_interrupted_download_is_repeated(hub, tmp_path):
    hub.cut["model.safetensors"] = 1000
    refused(FileNotFoundError, "503")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size == 1000]
    refused(FileNotFoundError, "503")
    hub.cut.clear()
    assert load(NAME, device="cpu").can == {"classify", "search"}


def test_files_missing_from_the_cache_are_fetched(hub):
    from huggingface_hub import hf_hub_download

    for name in ("config.json", "model.safetensors"):
        hf_hub_download(NAME, name)
    assert load(NAME, device="cpu").can == {"classify", "search"}
    assert hub.downloaded == SETTINGS | {"model.safetensors"}


def test_a_gated_repository(hub):
    hub.gated.add(NAME)
    refused(FileNotFoundError, "asks for consent", f"huggingface.co/{NAME}", "hf auth login")


def test_an_unknown_repository(hub):
    refused(FileNotFoundError, "expected a folder or file here, or a repository", name="people/nothing")


def test_a_repository_without_weights(hub, tmp_path):
    hub.folders["people/empty"] = tmp_path
    (tmp_path / "README.md").touch()
    refused(FileNotFoundError, "expected model.safetensors or", "README.md", name="people/empty")


def test_without_a_network_the_error_says_what_to_put_where(nowhere):
    refused(FileNotFoundError, f"`multimodal download {NAME} --to FOLDER`", "model.safetensors", "load that FOLDER")
    tag = "ViT-B-32:laion2b_s34b_b79k"
    refused(FileNotFoundError, f"`multimodal download {tag} --to FOLDER`", "open_clip_model.safetensors", name=tag)


def test_a_folder_never_uses_the_network(hub, folder, monkeypatch):
    import socket

    asked = []

    def connect(_, address):
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    load(folder, device="cpu")
    load("small", device="cpu")
    assert asked == []
    refused(FileNotFoundError, name="people/other")
    assert asked  # the patch works


# Names of open_clip


def test_a_tag_finds_its_file(hub, tmp_path):
    repo = open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")["hf_hub"].rstrip("/")
    folder = tmp_path / "laion"
    folder.mkdir()
    for name in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors"):
        (folder / name).write_bytes(name.encode())
    hub.folders[repo] = folder
    found = locate("ViT-B-32:laion2b_s34b_b79k")
    assert found.path.read_bytes() == b"open_clip_model.safetensors"
    assert hub.downloaded == {"open_clip_model.safetensors"}
    assert found.format.model_cfg == open_clip.get_model_config("ViT-B-32")
    assert found.format.preprocess_cfg == open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")
    repo, _, file = open_clip.get_pretrained_cfg("ViTamin-S", "datacomp1b")["hf_hub"].rpartition("/")
    hub.folders[repo] = tmp_path / "vitamin"
    hub.folders[repo].mkdir()
    (hub.folders[repo] / file).write_bytes(b"named")
    assert locate("ViTamin-S:datacomp1b").path.name == file


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ViT-B-32:nobody", r"ViT-B-32:nobody: expected a tag of ViT-B-32, such as \['openai', .*\], got 'nobody'"),
        ("ViT-Z:openai", "ViT-Z:openai: expected an architecture of open_clip, got 'ViT-Z'"),
    ],
)
def test_unknown_tags(hub, name, told):
    with pytest.raises(FileNotFoundError, match=told):
        load(name)
    assert hub.log == []


def test_all_of_open_clip_is_on_hubs():
    """So one way to download is enough."""
    for name, tag in open_clip.list_pretrained():
        assert open_clip.get_pretrained_cfg(name, tag).get("hf_hub"), (name, tag)


# Folders for other machines


def test_download_makes_a_folder_that_loads(hub, folder, tmp_path):
    files = download(NAME, tmp_path / "new" / "clip")
    assert {path.name for path in files} == SETTINGS | {"model.safetensors"}
    hub.log.clear()
    found = load(tmp_path / "new" / "clip", device="cpu")
    assert hub.log == []
    assert found.fingerprint == load(folder, device="cpu").fingerprint
    with pytest.raises(ValueError, match=r"to: expected a new folder, got .*, which exists"):
        download(NAME, tmp_path / "new" / "clip")


def test_download_of_a_tag_has_a_config(hub, tmp_path):
    """A single file, as for most tags, gets the config that open_clip has for its architecture."""
    repo = open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")["hf_hub"].rstrip("/")
    hub.folders[repo] = saved_open_clip(tmp_path / "laion")
    (tmp_path / "laion" / "open_clip_config.json").unlink()
    (tmp_path / "laion" / "model.safetensors").write_bytes(b"in the format of transformers")
    download("ViT-B-32:laion2b_s34b_b79k", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "open_clip_model.safetensors",
        "open_clip_config.json",
    }
    with pytest.raises(ValueError, match=r"image_size: expected 64, .* got 224"):  # the weights of a smaller model
        load(tmp_path / "out", device="cpu")


def test_a_failed_download_leaves_no_folder(hub, tmp_path):
    hub.cut["model.safetensors"] = 1000
    with pytest.raises(FileNotFoundError, match="503"):
        download(NAME, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_the_command_with_the_settings_of_the_hub(hub: Hub, tmp_path):
    """huggingface_hub reads HF_ENDPOINT and HF_HOME, and draws the progress bar."""
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    environment.pop("HF_HUB_CACHE", None)
    command = [sys.executable, "-m", "multimodal.cli", "download", NAME, "--to", str(tmp_path / "clip")]
    terminal, stderr = os.openpty()
    termios.tcsetwinsize(stderr, (24, 100))
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=120)
    assert done.stdout.startswith(f"{tmp_path / 'clip'}: 5 files, ")
    assert re.search(rb"model.safetensors:? +100%", os.read(terminal, 100_000))
    os.close(terminal)
    os.close(stderr)
    assert (tmp_path / "home" / "hub" / "models--people--clip").is_dir()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith("multimodal: to: expected a new folder")

"""Checkpoints by the names they have on hubs: files in the caches of this machine, or downloaded into them.

What is in a cache is used as it is, and nothing asks the network. A download is checked by the sha256 that the
hub gives, and what does not pass is removed.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from multimodal.zoo.reading import FILES as WEIGHTS

CONFIGS = ("open_clip_config.json", "config.json")
OTHERS = (
    *("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt"),
)
PREFIX = "hf-hub:"
CLIP_CACHE = Path("~/.cache/clip")  # open_clip's, for files that are on no hub


class Located(NamedTuple):
    """A checkpoint on this disk."""

    weights: Path  # a file, or a folder with one
    architecture: str | None = None  # open_clip's name for it, where the folder does not say
    preprocess: Mapping[str, Any] = MappingProxyType(
        {}
    )  # what open_clip knows of its pictures, and of its activation


def is_tag(name: str) -> bool:
    """Whether `name` is one of open_clip's, "architecture:tag"."""
    return ":" in name and not name.startswith(PREFIX)


def locate(name: str) -> Located:
    """Where the checkpoint called `name` is: "ViT-B-32:laion2b_s34b_b79k", "hf-hub:org/name" or "org/name".

    Raises FileNotFoundError for names that nobody knows, and where neither cache nor network has it: one line
    that says what to download and where to put it.
    """
    if not is_tag(name):
        return Located(repository(name.removeprefix(PREFIX)))
    import open_clip

    architecture, _, tag = name.partition(":")
    config = open_clip.get_pretrained_cfg(architecture, tag)
    if not config:
        known = open_clip.list_pretrained_tags_by_model(architecture)
        what = f"a tag of {architecture}, such as {known[:5]}" if known else "an architecture of open_clip"
        raise FileNotFoundError(f"{name}: expected {what}, got {tag if known else architecture!r}")
    if config.get("hf_hub"):
        repo, _, file = config["hf_hub"].rpartition("/")
        return Located(repository(repo, file or None), architecture, config)
    return Located(_from_url(config["url"]), architecture, config)


def repository(repo: str, file: str | None = None) -> Path:
    """The folder with the files of a hub's repository, or `file` in it, from the cache or the network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = [file] if file else list(WEIGHTS)
    try:
        folder = Path(snapshot_download(repo, local_files_only=True))
        if any((folder / name).exists() for name in _safer(wanted)):
            return _chosen(folder, wanted, file)
    except LocalEntryNotFoundError:
        pass
    return _chosen(_download(repo, wanted), wanted, file)


def _chosen(folder: Path, wanted: list[str], file: str | None) -> Path:
    if file is None:
        return folder
    return next(folder / name for name in _safer(wanted) if (folder / name).exists())


def _safer(names: Iterable[str]) -> list[str]:
    """The names, each after the safetensors of the same weights."""
    return [other for name in names for other in (str(Path(name).with_suffix(".safetensors")), name)]


def _download(repo: str, wanted: list[str]) -> Path:
    """Config, tokenizer and the safest weights of a repository, into the cache of the hub."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        info = HfApi().model_info(repo, files_metadata=True)
        there = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        weights = next((name for name in _safer(wanted) if name in there), None)
        if weights is None:
            raise FileNotFoundError(
                f"{repo}: expected weights ({', '.join(wanted)}), got {sorted(there)[:8]}"
            )
        shards = [name for name in there if weights.endswith(".index.json") and name.endswith(".safetensors")]
        paths = []
        for name in (*CONFIGS, *OTHERS, *shards, weights):
            if name in there:
                path = Path(hf_hub_download(repo, name, revision=info.sha))
                lfs = there[name].lfs  # of the files that are not in git itself
                check(path, None if lfs is None else lfs.sha256)
                paths.append(path)
    except GatedRepoError as error:
        raise FileNotFoundError(
            f"{repo}: expected a repository open to you, got one that asks for consent: give it on "
            f"https://huggingface.co/{repo}, then `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{repo}: expected a repository of huggingface.co, got none of this name"
        ) from error
    except FileNotFoundError:
        raise
    except OSError as error:  # all that may happen to a connection
        raise FileNotFoundError(
            f"{repo}: expected it in the cache, or a network to download it, got neither; elsewhere, "
            f"`multimodal download {repo} --to FOLDER` (or {' or '.join(wanted[:2])} and the json and txt files of "
            f"https://huggingface.co/{repo}), then load that FOLDER here"
        ) from error
    return paths[-1].parent


def check(path: Path, sha256: str | None) -> None:
    """Remove what was downloaded and raise ValueError unless it hashes to `sha256`, or its first digits."""
    if sha256 is None:
        return
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if not got.startswith(sha256):
        path.resolve().unlink()  # of a link in a cache, what it leads to
        path.unlink(missing_ok=True)
        raise ValueError(
            f"{path.name}: expected sha256 {sha256}, as the hub has it, got {got}; it was removed"
        )


def _from_url(url: str) -> Path:
    """A file of open_clip's that is on no hub: downloaded beside its place, and moved there whole."""
    from open_clip.pretrained import download_pretrained_from_url

    cache = CLIP_CACHE.expanduser()
    place = cache / os.path.basename(url)
    if place.is_file():
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        try:
            path = download_pretrained_from_url(url, cache_dir=folder)
        except (OSError, RuntimeError) as error:  # RuntimeError: the wrong hash
            raise FileNotFoundError(
                f"{url}: expected it in {cache}, or a network to download it, got neither ({error}); "
                f"elsewhere, download it, and put it into {cache}"
            ) from error
        os.replace(path, place)
    return place

"""Checkpoints by the names they have on hubs: files in the cache of this machine, or downloaded into it.

What is in the cache is used as it is, and nothing asks the network. Of a download the weights are checked by the
sha256 that the hub gives; a name leads into the cache once all is there and has passed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from multimodal.files import sha256_of, write_text
from multimodal.zoo.weights import OPEN_CLIP_CONFIG, shards_of, weights_order

CONFIGS = (OPEN_CLIP_CONFIG, "config.json")
OTHERS = (
    *("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt"),
)
PREFIX = "hf-hub:"


class Located(NamedTuple):
    """A checkpoint on this disk."""

    weights: Path  # a file, or a folder with one
    architecture: str | None = None  # open_clip's name for it, where the folder does not say
    # What open_clip knows of its pictures, and of its activation
    preprocess: Mapping[str, Any] = MappingProxyType({})


def is_tag(name: str) -> bool:
    """Whether `name` is one of open_clip's, "architecture:tag"."""
    return ":" in name and not name.startswith(PREFIX)


def locate(name: str, fetch: bool = False) -> Located:
    """Where the checkpoint called `name` is: "ViT-B-32:laion2b_s34b_b79k", "hf-hub:org/name" or "org/name".

    fetch: ask the hub, and download what is not in the cache, even where the cache has the weights.

    Raises FileNotFoundError for names that nobody knows, and where neither cache nor network has it: one line
    that says what to download and where to put it. Raises ValueError for a download with another hash.
    """
    if not is_tag(name):
        return Located(_weights(name, name.removeprefix(PREFIX), (), fetch).parent)
    import open_clip

    architecture, _, tag = name.partition(":")
    config = open_clip.get_pretrained_cfg(architecture, tag)
    if not config or not config.get("hf_hub"):
        known = open_clip.list_pretrained_tags_by_model(architecture)
        what = f"a tag of {architecture}, such as {known[:5]}" if known else "an architecture of open_clip"
        raise FileNotFoundError(f"{name}: expected {what}, got {tag if known else architecture!r}")
    repo, _, file = config["hf_hub"].rpartition("/")
    return Located(_weights(name, repo, _files(file), fetch), architecture, config)


def _files(file: str) -> Sequence[str]:
    """What the weights may be called that open_clip calls `file`, the safest first."""
    if not file:
        return "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
    return str(Path(file).with_suffix(".safetensors")), file


def _weights(name: str, repo: str, files: Sequence[str], fetch: bool) -> Path:
    """The weights of a repository, all that belongs to them beside them. files: what they are called, if known."""
    path = None if fetch else _cached(repo, files)
    return _download(name, repo, files) if path is None else path


def _cached(repo: str, files: Sequence[str]) -> Path | None:
    """The weights of a repository in the cache, all shards of them."""
    from huggingface_hub import try_to_load_from_cache

    found = {
        file: Path(path)
        for file in (*CONFIGS, *(files or weights_order(CONFIGS)))
        if isinstance(path := try_to_load_from_cache(repo, file), str)
    }
    path = next((found[file] for file in files or weights_order(found) if file in found), None)
    return path if path is not None and all(shard.is_file() for shard in shards_of(path)) else None


def _download(name: str, repo: str, files: Sequence[str]) -> Path:
    """Config, tokenizer and the safest weights of a repository, into the cache of the hub; the weights' path."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    # What happens to connections: in the library that the hub's uses these are no OSErrors.
    network: Any = (OSError, HfHubHTTPError.__mro__[1])
    try:
        info = HfApi().model_info(repo, files_metadata=True)
        there = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        weights = next((file for file in files or weights_order(there) if file in there), None)
        if weights is None:
            raise _Nothing(
                f"{name}: expected {' or '.join(files or weights_order(()))} in {repo}, got {[*there][:8]}"
            )

        def get(file: str) -> Path:
            path = Path(hf_hub_download(repo, file, revision=info.sha))
            lfs = there[file].lfs if file in there else None  # of the files that are not in git itself
            check(path, None if lfs is None else lfs.sha256)
            return path

        for file in (*CONFIGS, *OTHERS):
            if file in there:
                get(file)
        path = get(weights)
        for shard in shards_of(path):
            get(shard.name)
    except _Nothing as error:
        raise FileNotFoundError(str(error)) from None
    except GatedRepoError as error:
        raise FileNotFoundError(
            f"{name}: expected a repository open to you, got one that asks for consent: give it on "
            f"https://huggingface.co/{repo}, then `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: expected a folder or file here, or a repository of huggingface.co that is open to you, got none"
        ) from error
    except network as error:
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
        what = (" ".join(str(cause).split()) or type(cause).__name__)[:160]
        wanted = " or ".join((files or weights_order(()))[:2])
        raise FileNotFoundError(
            f"{name}: expected a folder or file here, or {repo} in the cache or from the network, got none "
            f"({what}); elsewhere, `multimodal download {name} --to FOLDER` (or {wanted} and the "
            f"json and txt files of https://huggingface.co/{repo}), then load that FOLDER here"
        ) from error
    write_text(path.parents[2] / "refs" / "main", str(info.sha))  # by which the cache is found
    return path


class _Nothing(Exception):
    """A repository without weights."""


def check(path: Path, sha256: str | None) -> None:
    """Remove what was downloaded and raise ValueError unless it hashes to `sha256`; None: nothing is known."""
    if sha256 is None:
        return
    got = sha256_of(path)
    if got != sha256:
        path.resolve().unlink()  # of a link in a cache, what it leads to
        path.unlink(missing_ok=True)
        raise ValueError(
            f"{path.name}: expected sha256 {sha256}, as the hub has it, got {got}; it was removed"
        )

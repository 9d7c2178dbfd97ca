"""Checkpoints by their names on hubs: files in the cache of this machine, or downloaded into it.

Files in the cache are used without asking the network. Downloaded weights are checked by the sha256 that the hub
states; a name resolves to the cache only when all files are there and have passed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from multimodal.files import sha256_of, write_text
from multimodal.zoo.formats.open_clip import OpenClipFormat
from multimodal.zoo.weights import OPEN_CLIP_CONFIG, OPEN_CLIP_FILES, CheckpointError, shards_of, weights_order

CONFIGS = (OPEN_CLIP_CONFIG, "config.json")
OTHER_FILES = (
    *("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt"),
)
PREFIX = "hf-hub:"


class Source(NamedTuple):
    """A checkpoint on this disk.

    format: if the name tells it, as a tag of open_clip does. cached: whether it is in the cache of a hub.
    """

    path: Path
    format: OpenClipFormat | None = None
    cached: bool = False


def is_tag(name: str) -> bool:
    """Whether `name` is one of open_clip, "architecture:tag"."""
    return ":" in name and not name.startswith((PREFIX, "file:"))


def is_hub_name(name: str) -> bool:
    """Whether `name` may be the name of a checkpoint on a hub, and not a path."""
    repo = name.removeprefix(PREFIX)
    return is_tag(name) or (repo.count("/") == 1 and not repo.startswith((".", "~", "/", "file:")))


def locate(name: str, fetch: bool = False) -> Source:
    """The checkpoint with the name "ViT-B-32:laion2b_s34b_b79k", "hf-hub:org/name" or "org/name".

    fetch: ask the hub, and download what is not in the cache, even if the cache has the weights.

    Raises FileNotFoundError for an unknown name, and if neither cache nor network has the checkpoint: one line that
    says what to download and where to put it. Raises CheckpointError for a download with another hash.
    """
    format: OpenClipFormat | None = None
    files: Sequence[str] = ()
    repo = name.removeprefix(PREFIX)
    if is_tag(name):
        import open_clip

        architecture, _, tag = name.partition(":")
        config = open_clip.get_pretrained_cfg(architecture, tag)
        if not config or not config.get("hf_hub"):
            known = open_clip.list_pretrained_tags_by_model(architecture)
            what = f"a tag of {architecture}, such as {known[:5]}" if known else "an architecture of open_clip"
            raise FileNotFoundError(f"{name}: expected {what}, got {tag if known else architecture!r}")
        format = OpenClipFormat.of_architecture(name, architecture, config)
        repo, _, file = config["hf_hub"].rpartition("/")
        files = (str(Path(file).with_suffix(".safetensors")), file) if file else OPEN_CLIP_FILES
    path = (None if fetch else _cached(repo, files)) or _download(name, repo, files)
    return Source(path.parent if format is None else path, format, cached=True)


def _cached(repo: str, files: Sequence[str]) -> Path | None:
    """The file with the weights of a repository if it is in the cache, with all its shards.

    files: the names that it may have, the safest format first; empty for the order of `weights_order`.
    """
    from huggingface_hub import try_to_load_from_cache

    found = {
        file: Path(path)
        for file in (*CONFIGS, *(files or weights_order(CONFIGS)))
        if isinstance(path := try_to_load_from_cache(repo, file), str)
    }
    path = next((found[file] for file in files or weights_order(found) if file in found), None)
    return path if path is not None and all(shard.is_file() for shard in shards_of(path)) else None


def _download(name: str, repo: str, files: Sequence[str]) -> Path:
    """The same, downloaded into the cache with config and tokenizer."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    # Errors of connections: in the HTTP library of huggingface_hub they are not OSErrors.
    network: Any = (OSError, HfHubHTTPError.__mro__[1])
    expected = files or weights_order(())
    try:
        path, present = _fetch(repo, files)
    except GatedRepoError as error:
        raise FileNotFoundError(
            f"{name}: expected a repository open to you, got one that asks for consent: give it on "
            f"https://huggingface.co/{repo}, then `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        wanted = "a folder or file here, or a repository of huggingface.co that is open to you"
        raise FileNotFoundError(f"{name}: expected {wanted}, got neither") from error
    except network as error:
        cause = error.__cause__ or error
        what = (" ".join(str(cause).split()) or type(cause).__name__)[:160]
        raise FileNotFoundError(
            f"{name}: expected a folder or file here, or {repo} in the cache or from the network, got neither "
            f"({what}); elsewhere, `multimodal download {name} --to FOLDER` (or {' or '.join(expected[:2])} and the "
            f"json and txt files of https://huggingface.co/{repo}), then load that FOLDER here"
        ) from error
    if path is None:
        raise FileNotFoundError(f"{name}: expected {' or '.join(expected)} in {repo}, got {present[:8]}")
    return path


def _fetch(repo: str, files: Sequence[str]) -> tuple[Path | None, list[str]]:
    """Download the safest weights of a repository and all that belongs to them, and list the repository."""
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().model_info(repo, files_metadata=True)
    present = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    weights = next((file for file in files or weights_order(present) if file in present), None)
    if weights is None:
        return None, [*present]

    def get(file: str) -> Path:
        path = Path(hf_hub_download(repo, file, revision=info.sha))
        lfs = present[file].lfs if file in present else None  # of files that are not in git itself
        if lfs is not None and (got := sha256_of(path)) != lfs.sha256:
            path.resolve().unlink()  # the file that a link in the cache leads to
            path.unlink(missing_ok=True)
            expected = f"expected sha256 {lfs.sha256} as on the hub"
            raise CheckpointError(f"{path.name}: {expected}, got {got}; the file was removed")
        return path

    *_, path = [get(file) for file in (*CONFIGS, *OTHER_FILES, weights) if file in present]
    for shard in shards_of(path):
        get(shard.name)
    write_text(path.parents[2] / "refs" / "main", str(info.sha))  # by which the cache finds it
    return path, [*present]

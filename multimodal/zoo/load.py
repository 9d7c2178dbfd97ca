"""`load`: one door to every model; `models`: what is behind it."""

import json
from pathlib import Path
from typing import NamedTuple

import torch

from multimodal.model import Model
from multimodal.zoo.folder import load_folder

SHIPPED = {"small": Path(__file__).parent / "small"}  # in the package, offline
DEFAULT = "small"


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """`device`, or the best one there is: CUDA, then Apple's MPS, then the CPU."""
    if device is not None:
        try:
            return torch.device(device)
        except RuntimeError as error:
            raise ValueError(f"device: expected 'cpu', 'cuda', 'cuda:0', 'mps', got {device!r}") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def load(
    name_or_folder: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Model:
    """A model ready to use, by name or from a folder of ours; without a name, the one in the package.

    device: chosen by itself where None; dtype: what the network computes in, float32 where None.
    Nothing is downloaded. Raises FileNotFoundError where there is no such model, and ValueError where a
    folder contradicts itself.

    >>> model = load()
    >>> model.classify("cat.jpg", ["cat", "dog"]).label  # doctest: +SKIP
    'cat'
    """
    name = DEFAULT if name_or_folder is None else name_or_folder
    folder = SHIPPED.get(str(name), Path(name))
    if not folder.is_dir():
        raise FileNotFoundError(
            f"model: expected a folder or one of {sorted(SHIPPED)}, got {str(name)!r}, which is neither"
        )
    return load_folder(folder, choose_device(device), dtype or torch.float32)


class Listed(NamedTuple):
    """A model that `load` knows by name."""

    name: str
    can: tuple[str, ...]  # some of "classify", "search" and "caption"
    parameters: int
    about: str

    def to_dict(self) -> dict[str, object]:
        return {**self._asdict(), "can": list(self.can)}


def models() -> list[Listed]:
    """What can be loaded by name, and what each can do; `load` also takes the folder of any run."""
    found = []
    for name, folder in SHIPPED.items():
        table = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        can = ("classify", "search", "caption") if "decoder" in table["model"] else ("classify", "search")
        card = table["card"]
        found.append(Listed(name, can, card["training"]["parameters"], card["about"]))
    return found

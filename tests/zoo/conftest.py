"""Checkpoints that tests of several files share."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.zoo.checkpoints import KINDS


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Callable[[str], Path]:
    """checkpoint(kind): the folder with a checkpoint of `KINDS`, made once. Leave it as it is."""
    place = tmp_path_factory.mktemp("checkpoints")

    def checkpoint(kind: str) -> Path:
        folder = place / kind
        return folder if folder.exists() else KINDS[kind](folder)

    return checkpoint


@pytest.fixture
def copied(checkpoint, tmp_path) -> Callable[[str], Path]:
    """copied(kind): a copy to change."""
    return lambda kind: Path(shutil.copytree(checkpoint(kind), tmp_path / kind))

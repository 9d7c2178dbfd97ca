"""Images of one colour, and tars made of them in memory."""

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from multimodal.preprocess import BPESettings, HFTokenizer

Members = Sequence[tuple[str, bytes]]


def _jpeg(seed: int, size: tuple[int, int] = (12, 12)) -> bytes:
    color = np.random.default_rng(seed).integers(0, 256, 3).tolist()
    buffer = io.BytesIO()
    Image.new("RGB", size, tuple(color)).save(buffer, "JPEG")
    return buffer.getvalue()


def _tar_bytes(members: Members, format: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _pairs(count: int, start: int = 0) -> list[tuple[str, bytes]]:
    members = []
    for i in range(start, start + count):
        record = {"captions": [f"image {i}", f"the image called {i}"], "label": f"class {i % 3}"}
        members += [(f"{i:03d}.jpg", _jpeg(i)), (f"{i:03d}.json", json.dumps(record).encode())]
    return members


@pytest.fixture(scope="session")
def jpeg() -> Callable[..., bytes]:
    """jpeg(seed, size=(12, 12)): an encoded image of one colour."""
    return _jpeg


@pytest.fixture(scope="session")
def tar_bytes() -> Callable[..., bytes]:
    """tar_bytes([(name, data), ...], format=USTAR): an archive."""
    return _tar_bytes


@pytest.fixture(scope="session")
def pairs() -> Callable[..., list[tuple[str, bytes]]]:
    """pairs(count, start=0): members of `count` samples, 000.jpg, 000.json, 001.jpg, ..."""
    return _pairs


@pytest.fixture
def shard(tmp_path: Path) -> Callable[..., Path]:
    """shard([(name, data), ...] or bytes, name="a.tar"): the file."""

    def shard(content: Members | bytes, name: str = "a.tar") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else _tar_bytes(content))
        return path

    return shard


@pytest.fixture(scope="session")
def tokenizer() -> HFTokenizer:
    """A small one, trained on the captions of these tests; it decodes every lower-case text to itself."""
    texts = [text for _, data in _pairs(20)[1::2] for text in json.loads(data)["captions"]]
    return BPESettings(32, 400).train(texts)

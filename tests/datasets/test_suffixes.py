"""Every image file that can be classified can also be trained on."""

import pytest

from multimodal.datasets import SOURCES, SourceOptions, open_source
from multimodal.preprocess import IMAGE_SUFFIXES, resolve


def read_folder(path):
    return SOURCES["folder"].read(path, SourceOptions())


def read_tar(path):
    return SOURCES["tar"].read(path, SourceOptions())


@pytest.mark.parametrize("suffix", [*IMAGE_SUFFIXES, ".JPG"])
def test_every_image_suffix_is_accepted_everywhere(suffix, jpeg, shard, tmp_path):
    path = tmp_path / "data" / "cat" / f"a{suffix}"
    path.parent.mkdir(parents=True)
    path.write_bytes(jpeg(0))
    assert resolve(tmp_path / "data").items == [path]
    for source in (read_folder(tmp_path / "data"), open_source(tmp_path / "data")):
        assert [sample.inputs["image"] for sample in source] == [path]
        assert source.rejected == []
    source = read_tar(shard([(f"a{suffix}", jpeg(0)), ("a.txt", b"a cat")]))
    assert [sample.inputs["image"] for sample in source] == [jpeg(0)]
    assert source.rejected == []


def test_other_suffixes_are_accepted_nowhere(jpeg, shard, tmp_path):
    path = tmp_path / "data" / "cat" / "a.dat"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no image")
    assert resolve(tmp_path / "data").items == []
    assert len(read_folder(tmp_path / "data")) == 0
    assert len(read_tar(shard([("a.dat", jpeg(0)), ("a.txt", b"a cat")]))) == 0

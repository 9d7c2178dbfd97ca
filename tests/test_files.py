"""Atomic writes: a reader sees the old file or the new one."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from multimodal.files import atomic_write, clear_leftovers, local_path, sha256_of, write_text


def test_a_file_appears_when_complete_with_ordinary_permissions(tmp_path):
    path = tmp_path / "new" / "folder" / "a.bin"
    with atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    ordinary = tmp_path / "ordinary"
    ordinary.write_bytes(b"")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    assert os.listdir(path.parent) == ["a.bin"]


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "before, ünï")

    def stopped():
        with atomic_write(path) as file:
            file.write(b"after")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        stopped()
    assert path.read_text(encoding="utf-8") == "before, ünï"
    assert os.listdir(tmp_path) == ["a.txt"]


WRITER = """
import sys
from multimodal.files import atomic_write
while True:
    for letter in b"ab":
        with atomic_write(sys.argv[1]) as file:
            for _ in range(64):
                file.write(bytes([letter]) * 4096)
"""


def test_a_writer_killed_at_any_moment_leaves_a_complete_file(tmp_path):
    path = tmp_path / "a.bin"
    for attempt in range(6):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.013 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        data = path.read_bytes()
        assert len(data) == 64 * 4096
        assert len(set(data)) == 1
    (tmp_path / ".mine.tmp").touch()
    clear_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".mine.tmp", "a.bin"]


def test_the_hash_of_a_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("chain", [1, 2])
def test_a_link_keeps_pointing_to_the_file_that_is_written(tmp_path, chain):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "a.txt", tmp_path / f"link{chain - 1}"
    for i in range(chain):  # a link to a link is followed to its end, also if nothing is there yet
        (tmp_path / f"link{i}").symlink_to(target if i == 0 else tmp_path / f"link{i - 1}")
    for text in ("new", "old file replaced"):
        write_text(link, text)
        assert link.is_symlink()
        assert not target.is_symlink()
        assert target.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to a pipe", "link to a device"])
def test_nothing_but_a_regular_file_is_replaced(tmp_path, kind):
    path = tmp_path / "out"
    if kind.endswith("pipe"):
        os.mkfifo(tmp_path / "pipe")
    places = {"pipe": tmp_path / "pipe", "device": Path(os.devnull), "folder": tmp_path}
    place = places[kind.split()[-1]]
    if kind.startswith("link"):
        path.symlink_to(place)
        place, before = path, stat.S_IFMT(os.stat(place).st_mode)
    else:
        before = stat.S_IFMT(os.stat(place).st_mode)
    with pytest.raises(ValueError, match="expected a regular file or a new one, got a"):
        write_text(place, "text")
    assert stat.S_IFMT(os.stat(place).st_mode) == before


def test_local_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "a b ü#?.txt"
    for written in ("~/a b ü#?.txt", Path("~/a b ü#?.txt"), file.as_uri(), str(file), file):
        assert local_path(written) == file
    assert local_path("a/~b") == Path("a/~b")
    assert local_path("~") == tmp_path
    assert local_path("~nobody-has-this-name/x") == Path("~nobody-has-this-name/x")


def test_temporary_folders_of_killed_writers_are_removed(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "a").write_bytes(b"a")
    (tmp_path / ".linked.abcdefgh.tmp").symlink_to(kept)  # the link goes, what it leads to stays
    (tmp_path / ".rehearsal.abcdefgh.tmp" / "inside").mkdir(parents=True)
    (tmp_path / ".rehearsal.abcdefgh.tmp" / "inside" / "b").write_bytes(b"b")
    clear_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["kept"]
    assert (kept / "a").read_bytes() == b"a"

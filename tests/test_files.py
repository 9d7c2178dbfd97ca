"""Atomic writes: a reader sees the old file or the new one."""

import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from multimodal.files import atomic_write, clear_leftovers, sha256_of, write_text


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

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from multimodal.retrieval import EmbeddingSpace, Entry, Store

SPACE = EmbeddingSpace("f" * 64, 16, "tiny")


def entry(path, content="0"):
    return Entry(path, 10, 20, content * 64)


def vector(seed):
    return torch.randn(16, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "x.db", SPACE, tmp_path / "photos") as store:
        yield store


def test_what_is_put_comes_back(store, tmp_path):
    names = ["b.jpg", "a.jpg", "sub folder/ä?#%.png", os.fsdecode(b"not\xfftext.jpg")]
    store.update(put=[(entry(name, str(i)), vector(i)) for i, name in enumerate(names)])
    store.close()
    with Store(tmp_path / "x.db") as again:
        assert again.space == SPACE
        assert again.folder == tmp_path / "photos"
        assert len(again) == 4
        assert again.entries() == {name: entry(name, str(i)) for i, name in enumerate(names)}
        paths, matrix = again.vectors()
        assert paths == sorted(names)
        assert matrix.dtype == torch.float32
        for path, row in zip(paths, matrix, strict=True):
            assert torch.equal(row, vector(names.index(path)))
    assert os.listdir(tmp_path) == ["x.db"]  # one file, and nothing beside it


def test_updates(store):
    store.update(put=[(entry("a", "1"), vector(1)), (entry("b", "2"), vector(2))])
    before = store.version()
    store.update(
        put=[(entry("a", "3"), vector(3))],  # new contents
        copy=[(Entry("b", 10, 99, "2" * 64), "b"), (entry("c", "2"), "b")],
        remove=["b", "never there"],
    )
    assert store.version() != before
    paths, matrix = store.vectors()
    assert paths == ["a", "c"]
    assert torch.equal(matrix, torch.stack([vector(3), vector(2)]))
    store.update(copy=[(Entry("c", 11, 12, "2" * 64), "c")])
    assert store.entries()["c"] == Entry("c", 11, 12, "2" * 64)


def test_an_update_is_all_or_nothing(store):
    store.update(put=[(entry("a"), vector(1))])
    with pytest.raises(ValueError, match=r"copy: expected a in .* with the contents of c, got none"):
        store.update(put=[(entry("b", "1"), vector(2))], copy=[(entry("c", "9"), "a")], remove=["a"])
    with pytest.raises(ValueError, match=r"vector of b: expected 16 finite values, got \[3\]"):
        store.update(put=[(entry("b"), torch.ones(3))], remove=["a"])
    with pytest.raises(ValueError, match=r"expected 16 finite values, got \[16\], 0 of them finite"):
        store.update(put=[(entry("b"), torch.full((16,), torch.nan))], remove=["a"])
    assert list(store.entries()) == ["a"]


def test_an_empty_store(store):
    assert len(store) == 0
    paths, matrix = store.vectors()
    assert paths == []
    assert matrix.shape == (0, 16)


def test_the_folder_moves(store, tmp_path):
    store.move(tmp_path / "elsewhere")
    assert store.folder == tmp_path / "elsewhere"
    store.close()
    with Store(tmp_path / "x.db") as again:
        assert again.folder == tmp_path / "elsewhere"


def test_another_connection_is_noticed(store, tmp_path):
    before = store.version()
    assert store.version() == before
    with Store(tmp_path / "x.db") as other:
        other.update(put=[(entry("a"), vector(1))])
    assert store.version() != before
    assert len(store) == 1


def test_closed(store):
    store.close()
    store.close()  # twice is harmless
    with pytest.raises(ValueError, match="closed"):
        len(store)


def test_create_does_not_overwrite(store, tmp_path):
    with pytest.raises(FileExistsError):
        Store.create(tmp_path / "x.db", SPACE, tmp_path)
    with pytest.raises(FileExistsError):
        Store.create(tmp_path, SPACE, tmp_path)
    (tmp_path / "empty.db").touch()
    Store.create(tmp_path / "empty.db", SPACE, tmp_path).close()


def test_files_that_are_not_ours(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected an index, got .*, which does not exist"):
        Store(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(ValueError, match="is not a file"):
        Store(tmp_path)
    for name, content in {"text": b"hello " * 500, "empty": b"", "image": b"\xff\xd8\xff\xe0" + bytes(5000)}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"expected an index, got (another|a damaged)"):
            Store(tmp_path / name)
        assert (tmp_path / name).read_bytes() == content
    connection = sqlite3.connect(tmp_path / "theirs")
    connection.execute("CREATE TABLE meta (key, value)")
    connection.close()
    with pytest.raises(ValueError, match=r"expected an index, got (another|a damaged)"):
        Store(tmp_path / "theirs")


def test_another_format(store, tmp_path):
    store.close()
    connection = sqlite3.connect(tmp_path / "x.db")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(ValueError, match="expected index format 1, got 7"):
        Store(tmp_path / "x.db")


def test_incomplete_description(store, tmp_path):
    store.close()
    connection = sqlite3.connect(tmp_path / "x.db")
    connection.execute("DELETE FROM meta WHERE key = 'dim'")
    connection.commit()
    connection.close()
    with pytest.raises(ValueError, match="damaged one: its description is incomplete"):
        Store(tmp_path / "x.db")


def test_a_damaged_vector_is_not_copied(store, tmp_path):
    """A copy gets a checksum of its own, which would hide the damage."""
    store.update(put=[(entry("a"), vector(1))])
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("UPDATE files SET vector = zeroblob(64)")
    connection.close()
    with pytest.raises(ValueError, match=r"copy: expected a in .*, undamaged and with the contents of b, got none"):
        store.update(copy=[(entry("b"), "a")])
    assert list(store.entries()) == ["a"]


def test_damage_is_refused_or_harmless(store, tmp_path):
    """Bytes flipped and tails cut off: a ValueError, or vectors that are exactly those written."""
    store.update(put=[(entry(f"folder/{i:03}.jpg", f"{i % 10}"), vector(i)) for i in range(200)])
    expected = store.vectors()
    store.close()
    whole = (tmp_path / "x.db").read_bytes()
    rng = random.Random(0)
    refused = 0
    for trial in range(300):
        content = bytearray(whole)
        if trial % 3 == 0:
            del content[rng.randrange(len(content)) :]
        else:
            for _ in range(rng.choice([1, 8, 64])):
                content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
        damaged = tmp_path / "damaged.db"
        damaged.write_bytes(content)
        try:
            with Store(damaged) as again:
                paths, matrix = again.vectors()
        except ValueError as error:
            refused += "damaged" in str(error) or pytest.fail(f"not a clear refusal: {error}")
            continue
        assert paths == expected[0]
        assert torch.equal(matrix, expected[1])
    assert refused > 200


def test_killed_in_the_middle(tmp_path):
    """Thirty SIGKILLs at random moments of updates that rewrite every vector: never half of one."""
    path = tmp_path / "x.db"
    with Store.create(path, EmbeddingSpace("f", 256, "tiny"), tmp_path) as store:
        store.update(put=[(entry(f"old{i}"), torch.zeros(256)) for i in range(100)])
    rng = random.Random(0)
    seen, previous = set(), 0.0
    with subprocess.Popen(
        [sys.executable, "-c", FORKS, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        for _ in range(30):
            process.stdin.write("\n")
            process.stdin.flush()
            child, first = map(int, process.stdout.readline().split())
            time.sleep(rng.uniform(0, 0.1))
            os.kill(child, signal.SIGKILL)
            assert process.stdout.readline() == "killed\n"
            with Store(path) as store:
                paths, matrix = store.vectors()
                times = {e.mtime_ns for e in store.entries().values()}
            version = matrix[0, 0].item()
            assert len(paths) == 100
            assert (matrix == version).all()
            assert times == ({20} if version == 0 else {int(version)})
            assert previous <= version < first + 1000
            seen.add(version)
            previous = version
    assert process.returncode == 0
    assert len(seen) > 3  # the kills came at different moments
    assert sorted(os.listdir(tmp_path)) in (["x.db"], ["x.db", "x.db-journal"])


# Imports torch once and forks a writer for each line on stdin: a process of its own, killed like any other.
FORKS = """
import os, sys, torch
from multimodal.retrieval import Entry, Store
torch.set_num_threads(1)
first = 1
for _ in sys.stdin:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        store = Store(sys.argv[1])
        os.write(write, b"ready")
        for version in range(first, 1_000_000):
            vector = torch.full((256,), float(version))
            store.update(
                put=[(Entry(f"{i}", 1, version, "0" * 64), vector) for i in range(100)],
                remove=[f"old{i}" for i in range(100)],
            )
    os.read(read, 5)
    print(child, first, flush=True)
    assert os.waitpid(child, 0)[1] == 9
    os.close(read), os.close(write)
    first += 1000
    print("killed", flush=True)
"""


CREATE = """
import sys
from multimodal.retrieval import EmbeddingSpace, Entry, Store
import torch
space = EmbeddingSpace("f" * 64, 16, "tiny")
sys.stdin.readline()
try:
    Store.create(sys.argv[1], space, "/photos").close()
    print("created")
except FileExistsError as error:
    print("exists")
with Store(sys.argv[1]) as store:
    store.update(put=[(Entry(sys.argv[2], 1, 2, "0" * 64), torch.ones(16))])
"""


@pytest.mark.parametrize("kind", ["new", "empty", "new folder", "link", "dangling link", "link in a new folder"])
def test_one_of_several_processes_creates_the_file(tmp_path, kind):
    path = real = tmp_path / "x.db"
    if kind == "empty":
        path.touch()
    elif kind == "new folder":
        path = real = tmp_path / "new" / "x.db"
    elif "link" in kind:
        real = tmp_path / "disk" / "real.db"
        if kind != "link in a new folder":
            real.parent.mkdir()
        if kind == "link":
            real.touch()
        path.symlink_to(real)
    command = [sys.executable, "-c", CREATE, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, f"{i}.png"], **pipes) for i in range(4)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert sorted(out.strip() for out, _ in outputs) == ["created", "exists", "exists", "exists"]
    with Store(path) as store:
        assert sorted(store.entries()) == [f"{i}.png" for i in range(4)]
    assert path.is_symlink() == ("link" in kind)
    assert [each.name for each in real.parent.iterdir() if each.is_file()] == [real.name]


def test_a_creation_that_was_killed_is_taken_back(tmp_path):
    """The journal is there and pages are written, but not all: the file counts as empty."""
    script = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA cache_size = 2')\n"  # pages are written before the commit
        "c.execute('BEGIN EXCLUSIVE')\n"
        "c.execute('CREATE TABLE files (x)')\n"
        "c.executemany('INSERT INTO files VALUES (?)', [('x' * 3000,)] * 500)\n"
        "os._exit(1)\n"
    )
    path = tmp_path / "x.db"
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert path.stat().st_size
    assert path.with_name("x.db-journal").exists()
    with Store.create(path, SPACE, tmp_path) as store:
        store.update(put=[(entry("a"), vector(1))])
    assert os.listdir(tmp_path) == ["x.db"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such files")
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "link to a device", "link to a fifo"])
def test_what_is_no_regular_file_is_refused(tmp_path, kind):
    path = tmp_path / "x"
    if kind.endswith("fifo"):
        os.mkfifo(tmp_path / "fifo")
    path = {"fifo": tmp_path / "fifo", "device": Path(os.devnull), "folder": tmp_path}.get(kind, path)
    if kind.startswith("link"):
        path.symlink_to(os.devnull if kind.endswith("device") else tmp_path / "fifo")
    with pytest.raises(FileExistsError, match="expected a new file"):
        Store.create(path, SPACE, tmp_path)
    with pytest.raises(ValueError, match="which is not a file"):
        Store(path)


def test_nothing_to_write_is_not_written(tmp_path, store):
    store.update(put=[(entry("a"), vector(1))])
    before = (tmp_path / "x.db").read_bytes()
    with sqlite3.connect(tmp_path / "x.db") as other:
        other.execute("BEGIN EXCLUSIVE")  # it would have to wait
        store._connection.execute("PRAGMA busy_timeout = 0")
        store.update(put=[], copy=iter([]), remove=iter([]))
    assert (tmp_path / "x.db").read_bytes() == before

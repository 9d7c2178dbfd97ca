import gzip
import io
import json
import os
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from multimodal.datasets import SOURCES, SourceOptions, open_source
from multimodal.datasets.sources.record import MAX_RECORD_BYTES


def read_tar(path, templates=None):
    return SOURCES["tar"].read(path, SourceOptions(templates))


def reference(path):
    """The samples of a sound shard by Python's tarfile, all in memory: {key: (image, captions, label)}."""
    members = {}
    with tarfile.open(path) as tar:
        for member in tar:
            members[member.name] = tar.extractfile(member).read()
    samples = {}
    for name, data in members.items():
        if name.endswith(".jpg"):
            record = json.loads(members[name[:-4] + ".json"])
            samples[f"{path.name}/{name[:-4]}"] = (data, tuple(record["captions"]), record.get("label"))
    return samples


def samples_of(source):
    return {sample.name: (sample.inputs["image"], sample.captions, sample.label) for sample in source}


def reasons(source):
    return {item.name: item.reason for item in source.rejected}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz"])
def test_sound_shards_read_as_by_tarfile(shard, tar_bytes, pairs, format, suffix):
    members = pairs(5)
    if format != tarfile.USTAR_FORMAT:
        members += [(f"{'deep/' * 30}ünï-{name}", data) for name, data in pairs(3, start=5)]
    data = tar_bytes(members, format)
    path = shard(data if suffix == ".tar" else gzip.compress(data), "a" + suffix)
    source = read_tar(path)
    assert source.rejected == []
    assert samples_of(source) == reference(path)
    assert len(source) == len(members) // 2


def test_gzip_is_known_by_its_bytes_not_by_its_name(shard, tar_bytes, pairs):
    assert len(read_tar(shard(gzip.compress(tar_bytes(pairs(2))), "a.tar"))) == 2
    assert len(read_tar(shard(tar_bytes(pairs(2)), "b.tar.gz"))) == 2


def test_text_caption_and_captions_under_other_names(shard, jpeg):
    source = read_tar(
        shard(
            [
                ("a.PNG", jpeg(0)), ("a.txt", b"\xef\xbb\xbf two  words\n"),
                ("b.jpeg", jpeg(1)), ("b.json", b'{"caption": "one", "label": 7}'),
                ("c.jpg", jpeg(2)), ("c.json", b'{"label": "cat"}'), ("c.txt", b"from the text"),
                ("d.v2.jpg", jpeg(3)), ("d.json", b'{"caption": "a key may end at the first dot"}'),
            ]
        )
    )  # fmt: skip
    assert {name: sample[1:] for name, sample in samples_of(source).items()} == {
        "a.tar/a": (("two  words",), None),
        "a.tar/b": (("one",), "7"),
        "a.tar/c": (("from the text",), "cat"),
        "a.tar/d": (("a key may end at the first dot",), None),
    }


def test_templates_give_captions_to_samples_that_only_have_a_label(shard, jpeg):
    path = shard([("a.jpg", jpeg(0)), ("a.json", b'{"label": "cat"}')])
    assert read_tar(path, ["a {}", "my {}."])[0].captions == ("a cat", "my cat.")
    assert "no templates" in reasons(read_tar(path))["a.tar/a"]


def test_a_damaged_header_costs_its_own_sample_only(shard, tar_bytes, pairs):
    data = bytearray(tar_bytes(pairs(6)))
    at = data.find(b"002.jpg")
    data[at + 100] ^= 0xFF
    path = shard(bytes(data))
    with tarfile.open(path) as tar:
        assert len(tar.getnames()) == 4  # what we do not do: the rest is dropped without a word
    source = read_tar(path)
    assert [sample.name[-3:] for sample in source] == ["000", "001", "003", "004", "005"]
    assert reasons(source) == {
        f"a.tar@{at}": "damaged header (bad checksum); searched on",
        "a.tar/002": "it has no image (found: .json)",
    }


BLOCKS = st.one_of(st.binary(min_size=512, max_size=512), st.sampled_from([bytes(512), b"\xff" * 512]))


@settings(max_examples=150, deadline=None)
@given(where=st.integers(0, 10**6), block=BLOCKS, cut=st.booleans())
@example(where=0, block=b"\x1f\x8b" + bytes(510), cut=False)  # as gzip begins
def test_whatever_is_whole_is_read(tmp_path_factory, pairs, tar_bytes, where, block, cut):
    """One block overwritten, or everything from some byte on cut off: all other samples stay exact."""
    data = tar_bytes(pairs(5))
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    path.write_bytes(data)
    sound = reference(path)
    hurt = set()
    with tarfile.open(path) as tar:
        end = [member.offset_data + -(-member.size // 512) * 512 for member in tar.getmembers()][-1]
        where %= end
        start = where if cut else where // 512 * 512
        for member in tar.getmembers():
            last = member.offset_data + member.size
            if last > start and (cut or member.offset <= start):
                hurt.add(f"a.tar/{member.name[:3]}")
    path.write_bytes(data[:start] if cut else data[:start] + block + data[start + 512 :])
    source = read_tar(path)
    found = samples_of(source)
    assert {name: found.get(name) for name in sound if name not in hurt} == {
        name: sample for name, sample in sound.items() if name not in hurt
    }
    lost = set(sound) - set(found)
    assert source.rejected or not lost


@pytest.mark.parametrize("keep", ["in the image", "in a header", "between two members"])
def test_a_truncated_shard_says_so(shard, tar_bytes, pairs, keep):
    data = tar_bytes(pairs(4))
    header = data.find(b"003.jpg")
    path = shard(data[: header + {"in the image": 700, "in a header": 100, "between two members": 0}[keep]])
    source = read_tar(path)
    assert len(source) == 3
    [[name, reason]] = reasons(source).items()
    if keep == "in the image":
        assert (name, "past the end" in reason) == ("a.tar/003.jpg", True)
    else:
        assert (name, "no end mark" in reason) == ("a.tar", True)


def test_a_gzip_stream_that_breaks_off(shard, tar_bytes, pairs, jpeg):
    noise = [(f"{name[:3]}.bin", os.urandom(3000)) for name, _ in pairs(20)[::2]]
    members = [member for group in zip(pairs(20)[::2], pairs(20)[1::2], noise, strict=True) for member in group]
    data = gzip.compress(tar_bytes(members))
    source = read_tar(shard(data[: len(data) // 2], "a.tar.gz"))
    assert 8 <= len(source) <= 11
    assert "is damaged after" in reasons(source)["a.tar.gz"]
    damaged = bytearray(data)
    damaged[len(data) // 2 : len(data) // 2 + 40] = b"\xff" * 40
    source = read_tar(shard(bytes(damaged), "b.tar.gz"))
    assert 8 <= len(source) <= 20
    assert "the gzip stream is damaged after" in reasons(source)["b.tar.gz"]
    source = read_tar(shard(b"\x1f\x8b" + b"nothing like gzip" * 9, "c.tar.gz"))
    assert len(source) == 0
    assert "damaged after 0 bytes" in reasons(source)["c.tar.gz"]


def test_joined_archives_are_read_to_the_end(shard, tar_bytes, pairs):
    joined = tar_bytes(pairs(2)) + tar_bytes(pairs(2, start=2))
    assert len(read_tar(shard(joined))) == 4
    parts = gzip.compress(tar_bytes(pairs(2))) + gzip.compress(tar_bytes(pairs(2, start=2)))
    for padding in (b"", bytes(700)):
        source = read_tar(shard(parts + padding, "b.tar.gz"))
        assert (len(source), source.rejected) == (4, [])


RECORDS = {
    b"{": "its json cannot be read",
    b"\xff\xfe": "its json cannot be read",
    b"[" * 100_000: "its json cannot be read",
    b'{"captions": ' + b"9" * 5000 + b"}": "its json cannot be read",
    b"[1]": "must be an object, got list",
    b"{}": "it has no captions",
    b'{"captions": []}': "it has no captions",
    b'{"captions": ["", "  "]}': "it has no captions",
    b'{"captions": {"a": "b"}}': "captions must be a string or a list of strings",
    b'{"captions": ["a", 3]}': "captions must be a string or a list of strings",
    b'{"captions": ["a"], "label": [1]}': "label must be a string, got list",
    b'{"captions": ["a"], "label": true}': "label must be a string, got bool",
    b'{"captions": ["\\ud800"]}': "not valid Unicode",
    b'{"captions": ["a"]' + b" " * MAX_RECORD_BYTES + b"}": "at most 1000000 are read",
}


@pytest.mark.parametrize(("record", "reason"), RECORDS.items(), ids=range(len(RECORDS)))
def test_bad_records_are_named_and_the_rest_goes_on(shard, pairs, jpeg, record, reason):
    source = read_tar(shard([("bad.jpg", jpeg(0)), ("bad.json", record), *pairs(2)]))
    assert len(source) == 2
    assert reason in reasons(source)["a.tar/bad"]


def test_incomplete_and_repeated_samples(shard, pairs, jpeg):
    members = [
        ("lonely.jpg", jpeg(0)),
        ("blind.json", b'{"captions": ["a"]}'),
        ("empty.jpg", b""), ("empty.json", b'{"captions": ["a"]}'),
        ("latin.jpg", jpeg(0)), ("latin.txt", b"caf\xe9"),
        ("README", b"hello"),
        *pairs(3),
        ("001.jpg", jpeg(9)), ("001.json", b'{"captions": ["again"]}'),
        ("002.png", jpeg(9)),
    ]  # fmt: skip
    source = read_tar(shard(members))
    assert [sample.name for sample in source] == ["a.tar/000", "a.tar/001", "a.tar/002"]
    assert source[1].inputs["image"] == jpeg(1)
    assert source[1].captions[0] == "image 1"
    assert reasons(source) == {
        "a.tar/lonely": "it has no captions",
        "a.tar/blind": "it has no image (found: .json)",
        "a.tar/empty": f"its image has 0 bytes, expected 1 to {64 * 2**20}",
        "a.tar/latin": "its text is not valid Unicode",
        "a.tar/README": "it has no image (found: no suffix)",
        "a.tar/001": "a second .jpg; the first is kept",
        "a.tar/002": "a second .png; the first is kept",
    }


def with_members(pairs, *members):
    """A tar with these TarInfo members, without their data, before two sound samples."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member in members:
            tar.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))
            tar.offset += 512
        for name, data in pairs(2):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def member(name, type=tarfile.REGTYPE, size=0, linkname=""):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = type, size, linkname
    return info


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (member("x.jpg", tarfile.SYMTYPE, linkname="/etc/passwd"), "a link to '/etc/passwd'"),
        (member("x.jpg", tarfile.LNKTYPE, linkname="000.jpg"), "a link to '000.jpg'"),
        (member("x.jpg", tarfile.CHRTYPE), "not a file (tar type b'3')"),
        (member("x.jpg", tarfile.BLKTYPE), "not a file (tar type b'4')"),
        (member("x.jpg", tarfile.FIFOTYPE), "not a file (tar type b'6')"),
        (member("x.jpg", tarfile.GNUTYPE_SPARSE), "a sparse file"),
        (member("x.jpg", size=8 * 2**30), "its size, 8589934592 bytes, reaches past the end"),
        (member("x.jpg", size=2**70), "reaches past the end"),
        (member("x.jpg", size=-5), "its size, -5 bytes"),
        (member("/etc/x.jpg"), "its name leads outside the shard"),
        (member("a/../../x.jpg"), "its name leads outside the shard"),
        (member(""), "it has no name"),
    ],
)
def test_members_that_are_no_plain_files(shard, pairs, odd, reason):
    source = read_tar(shard(with_members(pairs, odd)))
    assert len(source) == 2
    assert reason in reasons(source)[f"a.tar/{odd.name}"]


def test_a_long_name_of_a_terabyte_is_damage(shard, pairs):
    source = read_tar(shard(with_members(pairs, member("x", tarfile.GNUTYPE_LONGNAME, size=2**40))))
    assert len(source) == 2
    assert reasons(source)["a.tar@0"].startswith("damaged header")


def test_folders_and_global_headers_are_no_samples_and_no_problem(shard, pairs):
    source = read_tar(shard(with_members(pairs, member("a", tarfile.DIRTYPE), member("b", tarfile.XGLTYPE))))
    assert (len(source), source.rejected) == (2, [])


def test_names_are_printable(shard, jpeg, tar_bytes):
    members = [("bad\x1b[2J\udcff.jpg", jpeg(0)), ("good.jpg", jpeg(0)), ("good.txt", b"fine")]
    source = read_tar(shard(members))
    [name] = reasons(source)
    assert name == "a.tar/bad\\x1b[2J\\udcff"
    assert name.isprintable()


def test_a_pickle_inside_is_never_loaded(shard, pairs, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trapped"), "w"))

    payload = pickle.dumps(Trap())
    source = read_tar(shard([*pairs(1), ("000.pyd", payload), ("000.pickle", payload), ("000.pth", payload)]))
    assert len(source) == 1
    assert source[0].captions == ("image 0", "the image called 0")
    assert sorted(os.listdir(tmp_path)) == ["a.tar"]  # nothing ran, nothing was extracted


def test_a_folder_of_shards_is_read_in_order_and_names_an_unreadable_one(shard, pairs, tmp_path):
    shard(pairs(2, start=2), "b.tar")
    shard(pairs(2), "a.tar")
    (tmp_path / "c.tar").mkdir()
    source = open_source(tmp_path)
    assert [sample.name for sample in source] == ["a.tar/000", "a.tar/001", "b.tar/002", "b.tar/003"]
    assert list(reasons(source)) == ["c.tar"]


@pytest.mark.parametrize("packed", [False, True])
def test_threads_and_copies_read_the_same(shard, pairs, tar_bytes, packed):
    data = tar_bytes(pairs(20))
    source = read_tar(shard(gzip.compress(data) if packed else data))
    alone = [source[i].inputs["image"] for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: source[i % 20].inputs["image"], range(200))) == alone * 10
    copy = pickle.loads(pickle.dumps(source))  # as a worker that is not forked gets it
    assert [sample.inputs["image"] for sample in copy] == alone


def test_a_shard_that_shrinks_after_it_was_indexed(shard, pairs):
    path = shard(pairs(3))
    source = read_tar(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(OSError, match=r"a\.tar has become shorter"):
        source[2]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"0.jpg": None, "0.cls": "3", "0.txt": "a"}, {"0": (("a",), "3")}),
        ({"0.jpg": None, "0.cls": "dog\n"}, {"0": (("a photo of dog",), "dog")}),
        ({"0.jpg": None, "0.caption": "a"}, {"0": (("a",), None)}),
        ({"0.jpg": None, "0.text": "a"}, {"0": (("a",), None)}),
        ({"0.jpg": None, "0.json": '{"text": "a"}'}, {"0": (("a",), None)}),
        ({"0.jpg": None, "0.json": '{"title": "page"}', "0.txt": "a"}, {"0": (("a",), None)}),
        ({"0.input.jpg": None, "0.output.txt": "a"}, {"0": (("a",), None)}),
        ({"0.jpg": None, "0.outputs.txt": "a", "0.meta.json": "{}"}, {"0": (("a",), None)}),
        ({"d/0.image.png": None, "d/0.caption.txt": "a"}, {"d/0": (("a",), None)}),
        ({"v.1.jpg": None, "v.1.txt": "a", "v.2.jpg": None, "v.2.txt": "b"},
         {"v.1": (("a",), None), "v.2": (("b",), None)}),
        ({"v.1.input.jpg": None, "v.1.output.txt": "a", "v.2.input.jpg": None, "v.2.output.txt": "b"},
         {"v.1": (("a",), None), "v.2": (("b",), None)}),
        ({"0.jpg": None, "0.txt": "a", "0.depth.png": None}, {"0": (("a",), None)}),
    ],
)  # fmt: skip
def test_members_of_other_writers(shard, jpeg, members, expected):
    content = [(name, jpeg(0) if text is None else text.encode()) for name, text in members.items()]
    source = read_tar(shard(content), ["a photo of {}"])
    assert {name[6:]: sample[1:] for name, sample in samples_of(source).items()} == expected


def compressed(data, suffix):
    import bz2
    import lzma

    import zstandard

    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.ZstdCompressor().compress}
    return pack[suffix](data)


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst"])
def test_compressed_shards(shard, tar_bytes, pairs, tmp_path, suffix):
    plain = shard(tar_bytes(pairs(6)), "a.tar")
    path = shard(compressed(tar_bytes(pairs(6)), suffix), f"b.tar.{suffix}")
    assert [sample[1:] for sample in read_tar(path)] == [sample[1:] for sample in read_tar(plain)]
    parts = compressed(tar_bytes(pairs(2)), suffix) + compressed(tar_bytes(pairs(4, start=2)), suffix)
    assert len(read_tar(shard(parts, f"b.tar.{suffix}"))) == 6
    broken = read_tar(shard(path.read_bytes()[: len(compressed(tar_bytes(pairs(6)), suffix)) // 2], f"b.tar.{suffix}"))
    assert len(broken) < 6
    assert broken.rejected
    path.unlink()
    plain.unlink()
    shard(compressed(tar_bytes(pairs(3)), suffix), f"c.tar.{suffix}")
    assert len(open_source(tmp_path)) == 3


def test_zstd_without_its_package_says_so(shard, tar_bytes, pairs, monkeypatch):
    path = shard(compressed(tar_bytes(pairs(1)), "zst"), "a.tar.zst")
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(ValueError, match=r"a\.tar\.zst: expected the package zstandard"):
        open_source(path)


@pytest.mark.parametrize(
    "pattern", ["{00..02}.tar", "{00,01,02}.tar", "*.tar", "0[0-2].tar", "0{0..2}.tar", "0{0,[12]}.tar"]
)
def test_patterns(shard, jpeg, tmp_path, pattern):
    for i in range(3):
        shard([(f"{i}.jpg", jpeg(i)), (f"{i}.txt", b"text %d" % i)], f"{i:02d}.tar")
    source = open_source(tmp_path / pattern)
    assert [sample.captions for sample in source] == [(f"text {i}",) for i in range(3)]
    assert source.rejected == []


def test_a_missing_shard_of_a_pattern_is_listed(shard, pairs, tmp_path):
    shard(pairs(2), "000.tar")
    source = open_source(tmp_path / "{000..002}.tar")
    assert len(source) == 2
    assert list(reasons(source)) == ["001.tar", "002.tar"]
    for pattern in ("{5..9}.tar", "x*.tar"):
        with pytest.raises(FileNotFoundError, match="no data at"):
            open_source(tmp_path / pattern)
    with pytest.raises(ValueError, match="expected a rising range"):
        open_source(tmp_path / "{9..5}.tar")

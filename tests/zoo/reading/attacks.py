"""Files that try all that, and what each is refused for: pickles, archives around them, headers and others."""

import gzip
import io
import struct
import tarfile
import zipfile
from functools import partial

from torch import nn

from .forge import (
    archive,
    entry,
    link,
    pickled,
    safetensors,
    saved,
    zipped,
)
from .pickle_attacks import GOOD, HARM, IMPORT, OLD, ONE, RUN, Attack


def tar_with_a_link() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        info = tarfile.TarInfo("storages")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(info)
    return buffer.getvalue()


def zip_in_a_zip() -> bytes:
    """The list of the zip says that its second storage lies inside the first."""
    inside = zipped({"x/data/1": bytes(16)}).partition(b"PK\x01\x02")[0]
    make = partial(archive, GOOD, {"x/data/1": bytes(16), "x/data/2": inside})
    return make(moved={"x/data/1": make().rindex(inside)})


def swapped() -> bytes:
    """The list of the zip has each storage under the name of the other."""
    make = partial(archive, GOOD, {"x/data/1": bytes(16)})
    places = {entry.filename: entry.header_offset for entry in zipfile.ZipFile(io.BytesIO(make())).filelist}
    return make(moved={"x/data/0": places["x/data/1"], "x/data/1": places["x/data/0"]})


def patched(data: bytes, mark: bytes, at: int, new: bytes) -> bytes:
    """`new` is written over what lies `at` bytes after the last `mark`."""
    at += data.rindex(mark)
    return data[:at] + new + data[at + len(new) :]


def commented(data: bytes, comment: bytes) -> bytes:
    return data[:-2] + struct.pack("<H", len(comment)) + comment


FILES = "expected plain files in one folder"
ZIPS = {
    "bomb": (archive(GOOD, {"x/data/1": bytes(10**7)}, compression=zipfile.ZIP_DEFLATED), "compressed, "),
    "one entry in another": (zip_in_a_zip(), "expected entries side by side, got 'x/data/1' inside another"),
    "two entries in one place": (archive(GOOD, moved={"x/data/0": 0}), "expected entries side by side"),
    "names in turn": (swapped(), "expected 'x/data/1' at byte"),
    "link": (archive(GOOD, link("x/data/1", "/etc/passwd")), f"{FILES}, got 'x/data/1': a link"),
    "way out": (archive(GOOD, {"x/../../y": b""}), f"{FILES}, got 'x/../../y': its name leads outside"),
    "way out by backslash": (archive(GOOD, {"x\\..\\y": b""}), f"{FILES}, got"),
    "absolute name": (archive(GOOD, {"/etc/passwd": b""}), f"{FILES}, got '/etc/passwd': its name leads"),
    "two folders": (archive(GOOD, {"y/data.pkl": b""}), f"{FILES}, got 'y/data.pkl': not in 'x'"),
    "two cases of a name": (
        archive(GOOD, {"x/DATA.pkl": b""}),
        "expected 4 entries of different names, got 3",
    ),
    "end of a name": (archive(GOOD, {"x/datazpkl": b""}).replace(b"datazpkl", b"data\0pkl"), f"{FILES}, got"),
    "encrypted": (patched(archive(GOOD), b"PK\1\2", 8, b"\1\0"), f"{FILES}, got 'x/version': encrypted"),
    "zip in the comment": (commented(archive(GOOD), archive(GOOD)), "expected a zip's list"),
    "comment": (commented(archive(GOOD), b"no more"), "expected a zip up to the last byte"),
    "before a zip": (b"PK\x03\x04" + archive(GOOD), "expected a zip's list"),
    "long list": (zipped({f"x/{i}": b"" for i in range(20_000)}), "expected a zip's list of at most 1000000"),
    "entry over the list": (
        patched(archive(GOOD), b"PK\1\2", 20, struct.pack("<LL", 5000, 5000)),
        "expected entries up to byte",
    ),
    "two sizes of the list": (patched(saved(ONE), b"PK\6\6", 40, bytes(8)), "expected the zip's longer end"),
    "longer end elsewhere": (patched(saved(ONE), b"PK\6\7", 8, bytes(8)), "expected the zip's longer end"),
    "large record": (
        archive(GOOD, {"x/byteorder": bytes(5_000_000)}),
        "'byteorder' of at most 4000000 bytes",
    ),
    "cut off": (saved(ONE)[:-100], "expected a zip up to the last byte"),
    "no checkpoint": (zipped({"x/weight.npy": b""}), "got a zip archive without data.pkl"),
    "nothing": (zipped({}), "expected a checkpoint of torch.save, got something else"),
    "TorchScript": (
        archive(GOOD, {"x/constants.pkl": pickled(b")"), "x/code/__torch__.py": b"import os"}),
        "got TorchScript: save its state_dict()",
    ),
}
OTHERS = {
    "whole module": Attack("x.pt", saved(nn.Linear(1, 1)), f"{IMPORT} torch.nn.modules.linear.Linear"),
    "tar with a link": Attack("x.pt", tar_with_a_link(), "got a tar archive"),
    "gzip": Attack("x.bin", gzip.compress(saved(ONE)), "got a gzip file"),
    "numpy": Attack("x.pt", b"\x93NUMPY\x01\x00", "got a numpy array"),
    "HDF5": Attack("x.ckpt", b"\x89HDF\r\n\x1a\n", "got an HDF5 file"),
    "safetensors under another name": Attack("x.pt", safetensors({}), "of torch.save, got safetensors"),
    "Git LFS pointer": Attack(
        "x.bin", b"version https://git-lfs.github.com/spec/v1", "got a Git LFS pointer"
    ),
    "web page": Attack("x.safetensors", b"<!doctype html>", "got a web page: a header of"),
    "nothing": Attack("x.pth", b"", "expected a checkpoint of torch.save, got an empty file"),
    "no safetensors": Attack("x.safetensors", b"", "got an empty file: a header of 0 bytes in a file of 0"),
    "unknown suffix": Attack(
        "x.npz", b"PK", "expected a file of .safetensors, .bin, .pt, .pth, .ckpt, got .npz"
    ),
    "no suffix": Attack("x", b"", "got no suffix"),
}
BOTH = {"a": entry(), "b": entry(16, 32)}
ENTRY = "expected 'a' with dtype, shape and data_offsets, got"
HEADERS = {
    "header of exabytes": (safetensors(BOTH, bytes(32), length=2**63), "expected safetensors"),
    "header beyond the file": (
        safetensors(BOTH, length=1000),
        "got safetensors: a header of 1000 bytes in a file of 133",
    ),
    "header of megabytes": (
        safetensors(b"{" + b" " * 5_000_000),
        "expected safetensors with a header of at most 2000000 bytes, got safetensors",
    ),
    "no JSON": (safetensors(b"{'a': 1}"), "expected JSON, got Expecting property name"),
    "no UTF-8": (safetensors(b'{"\xff": 1}'), "expected JSON, got 'utf-8' codec can't decode"),
    "UTF-16": (safetensors("{}".encode("utf-16")), "expected JSON, got"),
    "no object": (safetensors([]), "expected a JSON object, got list"),
    "deep JSON": (safetensors(b'{"a":' + b"[" * 1_000_000), "expected JSON, got one nested too deeply"),
    "deep JSON of objects": (safetensors(b'{"a":' * 300_000), "expected JSON, got one nested too deeply"),
    "many lists": (safetensors(b'{"a":[' + b"[]," * 650_000 + b"0]}"), f"{ENTRY} [[], []"),
    "long number": (safetensors(b'{"a":' + b"9" * 1_000_000 + b"}"), "expected JSON, got Exceeds the limit"),
    "key twice": (safetensors(b'{"a":{},"a":{}}'), "expected each key once, got 'a' twice"),
    "key twice in an entry": (safetensors(b'{"a":{"dtype":"F32","dtype":"I32"}}'), "got 'dtype' twice"),
    "entry of another kind": (safetensors({"a": [1, 2]}), f"{ENTRY} [1, 2]"),
    "unknown type": (safetensors({"a": entry(dtype="F128")}, bytes(16)), ENTRY),
    "type that is none": (safetensors({"a": entry(dtype=["F32"])}, bytes(16)), ENTRY),
    "three offsets": (safetensors({"a": entry() | {"data_offsets": [0, 8, 16]}}, bytes(16)), ENTRY),
    "offset of a fraction": (safetensors({"a": entry(0.0)}, bytes(16)), ENTRY),
    "offset as text": (safetensors({"a": entry("0")}, bytes(16)), ENTRY),
    "shape with NaN": (safetensors({"a": entry(shape=[float("nan")])}, bytes(16)), ENTRY),
    "shape with true": (safetensors({"a": entry(shape=[4, True])}, bytes(16)), ENTRY),
    "key too many": (safetensors({"a": entry(code="import os")}, bytes(16)), ENTRY),
    "negative offset": (safetensors({"a": entry(-16, 0)}, bytes(16)), "'a' at byte 0 of the data, got -16"),
    "negative shape": (safetensors({"a": entry(shape=[-2, -2])}, bytes(16)), "expected 'a' of 0 to 2^48"),
    "backwards": (safetensors({"a": entry(16, 0)}, bytes(16)), "expected 'a' of 16 bytes, F32 [4], got -16"),
    "huge shape": (safetensors({"a": entry(shape=[2**62, 4])}, bytes(16)), "expected 'a' of 0 to 2^48"),
    "overflowing shape": (
        safetensors({"a": entry(0, 0, [2**32, 2**32])}),
        "expected 'a' of 73786976294838206464",
    ),
    "nothing, very wide": (safetensors({"a": entry(0, 0, [0, 2**63])}), "expected 'a' of 0 to 2^48"),
    "a thousand dimensions": (
        safetensors({"a": entry(0, 4, [1] * 1000)}, bytes(4)),
        "in at most 64 dimensions, got [1, 1",
    ),
    "overlap": (
        safetensors({"a": entry(), "b": entry(8, 24)}, bytes(24)),
        "byte 16 of the data, got 8: an overlap",
    ),
    "all in one place": (safetensors({"a": entry(), "b": entry()}, bytes(16)), "got 0: an overlap"),
    "hole": (
        safetensors({"a": entry(), "b": entry(20, 36)}, bytes(36)),
        "byte 16 of the data, got 20: a hole",
    ),
    "hole at the start": (safetensors({"a": entry(4, 20)}, bytes(20)), "byte 0 of the data, got 4: a hole"),
    "bytes after the end": (
        safetensors(BOTH, bytes(33)),
        "expected 32 bytes of data, as the header says, got 33",
    ),
    "cut off": (safetensors(BOTH, bytes(31)), "expected 32 bytes of data, as the header says, got 31"),
    "metadata of numbers": (
        safetensors({"__metadata__": {"a": 1}}),
        "damaged or not supported: SafetensorError",
    ),
}
ATTACKS = {
    **{f"run: {name}": attack for name, attack in RUN.items()},
    **{f"pickle: {name}": Attack("x.pt", archive(value), told) for name, (value, told) in HARM.items()},
    **{f"old: {name}": Attack("x.pth", data, told) for name, (data, told) in OLD.items()},
    **{f"zip: {name}": Attack("x.bin", data, told) for name, (data, told) in ZIPS.items()},
    **{f"other: {name}": attack for name, attack in OTHERS.items()},
    **{f"header: {name}": Attack("x.safetensors", data, told) for name, (data, told) in HEADERS.items()},
}

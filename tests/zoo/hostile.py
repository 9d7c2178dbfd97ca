"""Checkpoints that try to run code or to harm the process that reads them, built by hand."""

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from pickle import dumps
from typing import NamedTuple

import torch


class Attack(NamedTuple):
    file: str
    data: bytes | Callable[[Path], bytes]  # or made from the path of the canary, which must stay absent
    told: str  # part of the message; empty: nothing happens, or the weights are read


class Call:
    """Pickled, this calls `function`."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def shell(canary: Path) -> Call:
    return Call(os.system, f"touch '{canary}'")


def python(canary: Path) -> Call:
    return Call(exec, f"open({str(canary)!r}, 'w').close()")


def saved(value: object, **options) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def saved_legacy(value: object) -> bytes:
    """What torch.save wrote before torch 1.6."""
    return saved(value, _use_new_zipfile_serialization=False)


# Pickles: https://github.com/python/cpython/blob/main/Lib/pickletools.py documents the opcodes

EMPTY = b"ccollections\nOrderedDict\n)R"
IT, IT_2 = b"h\x00", b"h\x01"  # what was put into the memo under these numbers
BOMB = b")q\x00" + (IT + IT + b"\x86q\x00") * 64  # a pair of twice a pair of ...: 2^64 leaves to hash or to print
BOMB_2 = BOMB.replace(b"\x00", b"\x01")
LISTS = b"]q\x00" + (b"](" + IT + IT + b"eq\x00") * 64
DEEP = b"N" + b"\x85" * 200_000  # a tuple in a tuple in ...: hashing it overflows the C stack


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value: int) -> bytes:
    return b"\x8a\x20" + value.to_bytes(32, "little", signed=True)


def several(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def called(name: str, *arguments: bytes) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode() + several(*arguments) + b"R"


def storage(elements: int = 4, key: bytes = text("0"), more: bytes = b"") -> bytes:
    kind = b"ctorch\nFloatStorage\n"
    return several(text("storage"), kind, key, text("cpu"), integer(elements), more) + b"Q"


def tensor(size: Iterable[int] = (4,), strides: Iterable[int] = (1,), of: bytes | None = None) -> bytes:
    return called(
        "torch._utils._rebuild_tensor_v2",
        storage() if of is None else of,
        integer(0),
        several(*map(integer, size)),
        several(*map(integer, strides)),
        b"\x89" + EMPTY,
    )


def table(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(name) + value for name, value in values.items()) + b"u"


def copies(copy: bytes) -> bytes:
    """A list of many copies of one dict."""
    entries = b"".join(text(f"{i}") + b"N" for i in range(1000))
    return b"}q\x00(" + entries + b"u](" + copy * 1000 + b"e"


def legacy(value: bytes, keys: bytes = b"](" + text("0") + b"e", system: bytes = b"}") -> bytes:
    """The five pickles of the format before torch 1.6, and one storage of 4 floats after its length."""
    start = saved_legacy({})[:21]  # a magic number and a version
    pickles = b"".join(b"\x80\x02" + part + b"." for part in (system, value, keys))
    return start + pickles + struct.pack("<Q", 4) + bytes(16)


# Zips


def zipped(entries: dict, **options) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def archive(value: bytes, entries: dict | None = None, **options) -> bytes:
    """A checkpoint around a pickle, with one storage of 4 floats, and more entries."""
    whole = {"x/data.pkl": b"\x80\x02" + value + b".", "x/data/0": bytes(16), "x/version": b"3\n"}
    return zipped(whole | (entries or {}), **options)


def patched(data: bytes, mark: bytes, at: int, new: bytes) -> bytes:
    """`new` is written over what lies `at` bytes after the last `mark`."""
    at += data.rindex(mark)
    return data[:at] + new + data[at + len(new) :]


# Safetensors


def safetensors(header: object, data: bytes = b"") -> bytes:
    """header: a value that is written as JSON, or bytes."""
    written = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + data


def entry(begin: int = 0, end: int = 16, shape: Iterable[int] = (4,), dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


ONE = {"a": torch.ones(4)}
GOOD = table(a=tensor())
LEGACY_GOOD = table(a=tensor(of=storage(more=b"N")))
SKIPPED = "expected tensors by name, got"
TABLE = "expected a dict of tensors, such as a state_dict(), got"
LOADED = ""  # the weights are plain, and what is hostile beside them is skipped
START = "expected a checkpoint of torch.save, got"
KEY = "expected tensors by name, got other keys than strings"
END = "expected a zip that ends with a directory"
RUN = {  # code; none of these may leave a canary
    "shell": Attack("x.pt", lambda c: saved({"a": shell(c)}), f"{SKIPPED} posix.system under 'a'"),
    "beside the weights": Attack("x.ckpt", lambda c: saved({"model": ONE, "epoch": python(c)}), LOADED),
    "legacy": Attack("x.pt", lambda c: saved_legacy({"a": shell(c)}), f"{SKIPPED} posix.system"),
    "legacy, in the keys": Attack("x.pt", lambda c: legacy(LEGACY_GOOD, dumps(shell(c), 2)[2:-1]), "damaged"),
    "legacy, in the system": Attack("x.bin", lambda c: legacy(LEGACY_GOOD, system=dumps(python(c), 2)[2:-1]), LOADED),
    "plain pickle": Attack("x.bin", lambda c: dumps(shell(c), 2), START),
    "pickle called safetensors": Attack("x.safetensors", lambda c: dumps(shell(c), 2), "got b'\\x80\\x02cposix"),
    "protocol 4": Attack(
        "x.pt", lambda c: zipped({"x/data.pkl": dumps(shell(c), 4), "x/version": b"3"}), f"{TABLE} posix.system"
    ),
}
HARM = {  # pickles that allocate, copy, hash or print more than the file holds
    "bytearray of 2 GB": (called("builtins.bytearray", integer(2**31)), f"{TABLE} builtins.bytearray"),
    "storage of a terabyte": (called("torch.storage.UntypedStorage", integer(2**40)), TABLE),
    "sparse tensor": (table(a=called("torch._utils._rebuild_sparse_tensor")), SKIPPED),
    "copies by calls": (copies(b"ccollections\nOrderedDict\n" + IT + b"\x85R"), f"{TABLE} list"),
    "copies by a call with a list": (copies(b"ccollections\nOrderedDict\n]" + IT + b"aR"), f"{TABLE} list"),
    "copies as attributes": (copies(EMPTY + IT + b"b"), f"{TABLE} list"),
    "key that hashes forever": (BOMB + b"}" + IT + b"Ns", KEY),
    "storage that hashes forever": (BOMB + table(a=tensor(of=storage(key=IT))), SKIPPED),
    "key that overflows the stack": (b"}" + DEEP + b"Ns", KEY),
    "storage that overflows the stack": (table(a=tensor(of=storage(key=DEEP))), SKIPPED),
    "integers that collide": (b"}" + integer(2**61 - 1) + b"Ns", KEY),
    "tuples that collide": (b"}()Nu", KEY),
    "function that prints forever": (LISTS + IT + b")R", f"{TABLE} reduce"),
    "class that prints forever": (LISTS + IT + b")\x81", f"{TABLE} newobj"),
    "a million operations": (b"N" * 1_000_000, "expected a pickle of at most 300000 opcodes"),
    "stride of 0": (table(b=tensor([2**40], [0])), "at most 4 times the file, got 'b' of shape (1099511627776,)"),
    "strides of 0": (table(b=tensor([2**31, 2**31], [0, 0])), "at most 4 times the file, got 'b' of shape"),
    "size of 2^64 bytes": (table(b=tensor([2**62], [0])), "at most 4 times the file, got 'b' of shape"),
    "beyond the storage": (table(b=tensor([5])), "damaged or not supported: RuntimeError"),
    "list": (b"]", f"{TABLE} list"),
    "number": (table(a=tensor(), b=b"K\x01"), "expected tensors by name, got int under 'b'"),
    "number as a name": (b"}K\x07" + tensor() + b"s", KEY),
}
LEGACY = {
    "keys that compare forever": (
        legacy(LEGACY_GOOD, BOMB + BOMB_2 + b"](" + IT + IT_2 + b"e"),
        "damaged: expected strings",
    ),
    "storage of a terabyte": (legacy(table(a=tensor(of=storage(2**38, more=b"N")))), LOADED),
    "storage of 4 GB without data": (
        legacy(table(a=tensor([2**30], of=storage(2**30, more=b"N"))), keys=b"]"),
        "at most 4 times the file",
    ),
    "cut off": (legacy(LEGACY_GOOD)[:-1], "damaged or not supported"),
}
ZIPS = {
    "bomb": (archive(GOOD, compression=zipfile.ZIP_DEFLATED), "without compression, got ['x/data.pkl'"),
    "two cases of a name": (archive(GOOD, {"x/DATA.pkl": b""}), LOADED),
    "zip in the comment": (
        archive(GOOD)[:-2] + struct.pack("<H", len(archive(GOOD))) + archive(GOOD),
        "expected a zip with one directory",
    ),
    "comment": (archive(GOOD)[:-2] + b"\x07\x00no more", END),
    "bytes before the zip": (b"PK\x03\x04" + archive(GOOD), "expected a zip with one directory"),
    "another directory": (patched(saved(ONE), b"PK\6\7", 8, bytes(8)), "expected a zip with one directory"),
    "large directory": (zipped({f"x/{i}": b"" for i in range(20_000)}), END),
    "cut off": (saved(ONE)[:-100], END),
    "no checkpoint": (zipped({"x/weight.npy": b""}), "expected data.pkl and storages"),
    "TorchScript": (archive(GOOD, {"x/constants.pkl": b"\x80\x02)."}), "got TorchScript: save its state_dict()"),
}
OTHERS = {
    "Git LFS pointer": Attack("x.bin", b"version https://git-lfs.github.com/", f"{START} b'version https://git"),
    "web page": Attack("x.safetensors", b"<!doctype html>", "header of at most 2000000 bytes, got b'<!doctype"),
    "empty": Attack("x.pth", b"", f"{START} b''"),
    "empty safetensors": Attack("x.safetensors", b"", "SafetensorError"),
    "header that takes gigabytes": Attack("x.safetensors", safetensors(b"{}" + b" " * 2_000_000), "safetensors header"),
    "hole": Attack("x.safetensors", safetensors({"a": entry(4, 20)}, bytes(20)), "SafetensorError"),
    "unknown suffix": Attack("x.npz", b"PK", "expected a file of .safetensors, .bin, .pt, .pth, .ckpt, got .npz"),
}
ATTACKS = {
    **{f"run: {name}": attack for name, attack in RUN.items()},
    **{f"pickle: {name}": Attack("x.pt", archive(value), told) for name, (value, told) in HARM.items()},
    **{f"legacy: {name}": Attack("x.pth", data, told) for name, (data, told) in LEGACY.items()},
    **{f"zip: {name}": Attack("x.bin", data, told) for name, (data, told) in ZIPS.items()},
    **{f"other: {name}": attack for name, attack in OTHERS.items()},
}

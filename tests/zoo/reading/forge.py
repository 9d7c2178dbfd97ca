"""Checkpoints by hand: pickles, zips and safetensors as no library writes them."""

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch


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


def saved_as_before(value: object) -> bytes:
    """What torch.save wrote before 1.6."""
    return saved(value, _use_new_zipfile_serialization=False)


# Pickles: https://github.com/python/cpython/blob/main/Lib/pickletools.py says what the letters do

EMPTY = b"ccollections\nOrderedDict\n)R"
# A tuple of twice a tuple of twice ...: 2^64 leaves to hash, to print or to compare
BOMB = b")q\x00" + b"h\x00h\x00\x86q\x00" * 64
BOMB_2 = BOMB.replace(b"\x00", b"\x01")
IT, IT_2 = b"h\x00", b"h\x01"  # what was left under these numbers


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value: int) -> bytes:
    return b"\x8a\x20" + value.to_bytes(32, "little", signed=True)


def several(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def named(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def called(name: str, *arguments: bytes) -> bytes:
    return named(name) + several(*arguments) + b"R"


def storage(elements: int = 4, kind: str = "FloatStorage", key: str = "0", more: bytes = b"") -> bytes:
    parts = [text("storage"), named(f"torch.{kind}"), text(key), text("cpu"), integer(elements), more]
    return several(*parts) + b"Q"


def tensor(
    size: Iterable = (4,), strides: Iterable = (1,), offset: int = 0, of: bytes | None = None
) -> bytes:
    """size, strides: integers, or what is pickled in their place."""
    return called(
        "torch._utils._rebuild_tensor_v2",
        storage() if of is None else of,
        integer(offset),
        several(*(n if isinstance(n, bytes) else integer(n) for n in size)),
        several(*(n if isinstance(n, bytes) else integer(n) for n in strides)),
        b"\x89" + EMPTY,
    )


def table(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(name) + value for name, value in values.items()) + b"u"


def pickled(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


def old(value: bytes, keys: bytes = b"](" + text("0") + b"e", system: bytes = b"}", length: int = 4) -> bytes:
    """The five pickles of the format before 1.6, and one storage of 4 floats after its length."""
    start = saved_as_before({})[:21]  # a magic number and a version
    pickles = pickled(system) + pickled(value) + pickled(keys)
    return start + pickles + struct.pack("<Q", length) + bytes(16)


# Zips


def zipped(entries: dict, moved: dict[str, int] | None = None, **options) -> bytes:
    """entries: data by name or ZipInfo; moved: where the list of the zip says that an entry is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
        for entry in archive.filelist:
            entry.header_offset = (moved or {}).get(entry.filename, entry.header_offset)
    return buffer.getvalue()


def archive(value: bytes, entries: dict | None = None, **options) -> bytes:
    """A checkpoint around a pickle, with one storage of 4 floats, and more entries."""
    whole = {"x/data.pkl": pickled(value), "x/data/0": bytes(16), "x/version": b"3\n"}
    return zipped(whole | (entries or {}), **options)


def link(name: str, target: str) -> dict:
    """An entry that unpacks as a symbolic link."""
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return {info: target.encode()}


# Safetensors


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """header: what is written as JSON, or bytes as they are."""
    written = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(written) if length is None else length) + written + data


def entry(begin: object = 0, end: object = 16, shape: object = (4,), dtype: object = "F32", **more) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}

"""Pickles that try to run code, to crash their reader or to hold it for ever, and what each is refused for."""

from collections.abc import Callable
from pathlib import Path
from pickle import dumps
from typing import NamedTuple

import torch

from .forge import (
    BOMB,
    BOMB_2,
    EMPTY,
    IT,
    IT_2,
    archive,
    called,
    integer,
    old,
    python,
    saved,
    saved_as_before,
    several,
    shell,
    storage,
    table,
    tensor,
    text,
    zipped,
)

ONE = {"a": torch.ones(4)}
GOOD = table(a=tensor())
OLD_GOOD = table(a=tensor(of=storage(more=b"N")))


class Attack(NamedTuple):
    file: str
    data: bytes | Callable[[Path], bytes]  # or from the path of the canary, which must stay empty
    told: str  # part of the message


def loads(canary: Path) -> bytes:
    """A pickle in a pickle: the outer one has nothing bad in it but the door."""
    inner = dumps(python(canary), 0).decode()
    return archive(called("_pickle.loads", called("_codecs.encode", text(inner), text("latin1"))))


IMPORT = "expected plain tensors and values, got the global"
RUN = {  # code; none of these may leave a canary
    "shell": Attack("x.pt", lambda c: saved({"a": shell(c)}), f"'a': {IMPORT} posix.system"),
    "open": Attack("x.bin", lambda c: saved({"a": python(c)}), f"'a': {IMPORT} __builtin__.exec"),
    "deep inside": Attack(
        "x.pth", lambda c: saved({"model": {"b": [(1, {"c": shell(c)})]}}), f"'c': {IMPORT}"
    ),
    "beside the weights": Attack("x.ckpt", lambda c: saved({"model": ONE, "epoch": python(c)}), IMPORT),
    "old format": Attack("x.pt", lambda c: saved_as_before({"a": shell(c)}), f"{IMPORT} posix.system"),
    "old format, among the keys": Attack(
        "x.pt", lambda c: old(OLD_GOOD, keys=dumps(shell(c), 2)[2:-1]), IMPORT
    ),
    "old format, in the system": Attack(
        "x.bin", lambda c: old(OLD_GOOD, system=dumps(python(c), 2)[2:-1]), IMPORT
    ),
    "plain pickle": Attack("x.bin", lambda c: dumps(shell(c), 2), "of torch.save, got a pickle"),
    "plain pickle of protocol 0": Attack("x.ckpt", lambda c: dumps(python(c), 0), "got something else"),
    "pickle called safetensors": Attack("x.safetensors", lambda c: dumps(shell(c), 2), "got a pickle"),
    "zip called safetensors": Attack("x.safetensors", lambda c: saved({"a": shell(c)}), "got a zip archive"),
    "protocol 4": Attack(
        "x.pt",
        lambda c: zipped({"x/data.pkl": dumps(shell(c), 4), "x/version": b"3"}),
        "expected pickle protocol 2, got 4",
    ),
    "protocol 0": Attack(
        "x.pt", lambda c: zipped({"x/data.pkl": dumps(python(c), 0), "x/version": b"3"}), IMPORT
    ),
    "pickle in a pickle": Attack("x.pt", loads, f"{IMPORT} _pickle.loads"),
}
HARM = {  # pickles that `weights_only=True` lets through or stumbles over
    "bytearray of a terabyte": (called("builtins.bytearray", integer(2**40)), f"{IMPORT} builtins.bytearray"),
    "tensor of a terabyte": (called("torch.Tensor", integer(2**38)), f"{IMPORT} torch.Tensor"),
    "copy of a terabyte": (called("torch._utils._rebuild_device_tensor_from_cpu_tensor", tensor()), IMPORT),
    "key that hashes for ever": (
        BOMB + b"}" + IT + b"Ns",
        "expected names or small integers as keys, got one of tuple",
    ),
    "key that collides": (
        b"}" + integer(2**61 - 1) + b"Ns",
        "expected names or small integers as keys, got one of int",
    ),
    "function that prints for ever": (BOMB + IT + b")R", "expected calls as torch.save writes them"),
    "size that prints for ever": (BOMB + table(a=tensor(size=[IT])), "'a': expected an offset, sizes"),
    "storage that prints for ever": (BOMB + several(IT, IT) + b"Q", "expected storages as torch.save writes"),
    "attributes over methods": (EMPTY + table(items=b"N") + b"b", "expected _metadata of an OrderedDict"),
    "key of a list": (b"](" + text("a") + b"Nu", "expected keys of a dict, got of list"),
    "item of a dict": (b"}Na", "expected items of a list, got of dict"),
    "more operations than tensors need": (b"N" * 400_000, "at most 300000 operations"),
    "more pickle than tensors need": (text(" " * 5_000_000), "'data.pkl' of at most 4000000 bytes"),
    "bad word at the end": (
        b"](" + tensor() * 12_000 + b"e" + called("os.system", text("true")),
        f"{IMPORT} os.system",
    ),
    "another operation": (b"N0", "expected operations as torch.save writes them, got POP"),
    "nothing on the stack": (b"", "damaged or not supported"),
    "stride of 0": (
        table(a=tensor([2**40], [0])),
        "'a': expected a tensor inside its storage of 4 elements, got size",
    ),
    "larger than the storage": (
        table(b=tensor([5])),
        "'b': expected a tensor inside its storage of 4 elements",
    ),
    "after the storage": (table(b=tensor([2], [1], 3)), "strides (1,), offset 3"),
    "before the storage": (table(b=tensor([2], [1], -1)), "strides (1,), offset -1"),
    "strides backwards": (table(b=tensor([2], [-1], 1)), "strides (-1,), offset 1"),
    "nothing, very wide": (table(b=tensor([0, 2**62], [1, 1])), "'b': expected a tensor inside its storage"),
    "a thousand dimensions": (table(b=tensor([1] * 1000, [1] * 1000)), "'b': expected an offset, sizes"),
    "storage beyond its bytes": (
        table(a=tensor(of=storage(2**40))),
        "storage '0' of 4398046511104 bytes, got 16",
    ),
    "storage under no key": (table(a=tensor(of=storage(key="../0"))), "storage '../0' of 16 bytes, got none"),
    "storage of two types": (
        table(a=tensor(of=storage()), b=tensor(of=storage(2, "LongStorage"))),
        "'b': expected Storage(key='0', dtype='FloatStorage'",
    ),
    "quantized storage": (table(a=tensor(of=storage(4, "QInt8Storage"))), IMPORT),
    "sparse tensor": (table(a=called("torch._utils._rebuild_sparse_tensor")), f"'a': {IMPORT}"),
    "tensor without storage": (
        table(a=called("torch._utils._rebuild_meta_tensor_no_storage")),
        f"'a': {IMPORT}",
    ),
    "subclass": (table(a=called("torch._tensor._rebuild_from_type_v2")), f"'a': {IMPORT}"),
    "list": (b"]", "expected a dict of tensors, got list"),
    "number among tensors": (table(a=tensor(), b=b"K\x01"), "'b': expected a tensor, got int"),
    "number for a name": (b"}K\x07" + tensor() + b"s", "expected names of tensors, got 7"),
}
OLD = {  # the format before torch 1.6
    "storage of terabytes": (
        old(table(a=tensor(of=storage(2**40, more=b"N")))),
        "expected 4398046511112 bytes",
    ),
    "view of a storage": (
        old(table(a=tensor(of=storage(more=several(text("1")))))),
        "expected storages as torch",
    ),
    "cut off": (old(OLD_GOOD)[:-1], "expected 24 bytes of storages, got 23"),
    "keys of nothing": (old(OLD_GOOD, keys=b"]"), "expected the keys of 1 storages, got others"),
    "keys that compare for ever": (
        old(OLD_GOOD, keys=BOMB + BOMB_2 + b"](" + IT + IT_2 + b"e"),
        "expected a list of keys of storages",
    ),
    "storage of another length": (old(OLD_GOOD, length=3), "RuntimeError: storage has wrong byte size"),
    "no pickles": (old(OLD_GOOD)[:40], "damaged or not supported"),
}

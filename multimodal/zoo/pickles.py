"""Read the files of `torch.save` without unpickling them.

A pickle is a program for a stack machine that may import and call anything. Here its opcodes only build what a state
dict needs: dicts with strings as keys, strings, integers, lists, tuples, and a `Record` of where in the file a tensor
lies. Anything else that a training script saved (optimizers, arguments, NumPy numbers, paths, objects of any class)
becomes a `Skipped`: nothing is imported, called or copied, whatever the protocol. What is left to guard against:

- Opcodes without end. Their number is limited, and time and memory grow no faster than it.
- A pair of twice a pair of twice ... would be hashed or printed forever, integers can be made to collide, and hashing a
  million nested tuples overflows the C stack. Only strings are hashed, and no value is printed or compared.
- A compressed zip of 1 MB inflates to 1 GB; it is refused, as torch never writes one.
"""

import json
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch

TABLE = json.loads(Path(__file__).with_name("weights.json").read_text(encoding="utf-8"))
DTYPES = {f"torch.{name}Storage": getattr(torch, dtype) for name, dtype in TABLE["dtypes"].items()}
PLAIN = set(TABLE["plain_opcodes"])  # those of strings and integers
MAX_OPCODES = 300_000  # about 9 thousand tensors, or 3 thousand with the state of their optimizer
MAX_DIRECTORY_BYTES = 1_000_000  # in a zip: about 15 thousand entries
MAX_DIMENSIONS = 64
MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # begins a file in the format before torch 1.6
# The last records of a zip: start of the directory, mark and place of that record; mark, start, length of a comment
ZIP_END = struct.Struct("<48xQ4s4xQ4x4s12xLH")
Places = Mapping[str, tuple[int, int]]  # where the bytes of each storage begin in the file, and how many they are


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message is one line that names the file."""


class Skipped(NamedTuple):
    """What is not built. name: of a class or function, whether it is that or what it makes; or of an opcode"""

    name: str


class Record(NamedTuple):
    """A tensor: numbers of the storage `key`, from the number `offset` on."""

    dtype: torch.dtype
    key: str
    offset: int = 0
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()


def read_legacy(file: IO[bytes]) -> tuple[Any, Places]:
    """The value in a file before torch 1.6: five pickles, and the storages, each after its length.

    Raises CheckpointError for other files.
    """
    head = file.read(64)
    if MAGIC not in head:
        raise CheckpointError(f"expected a checkpoint of torch.save, got {head[:20]!r} ...")
    file.seek(0)
    storages: dict[str, torch.dtype] = {}
    *_, value, keys = (read_pickle(file, storages) for _ in range(5))
    places = {}
    for key in keys:
        if not isinstance(key, str):
            raise CheckpointError("damaged: expected strings as keys of the storages, got others")
        size = int.from_bytes(file.read(8), "little") * storages[key].itemsize
        places[key] = (file.tell(), size)
        file.seek(size, 1)
    return value, places


def read_zip(file: IO[bytes]) -> tuple[Any, Places]:
    """The value in a file of torch 1.6 or later. Raises CheckpointError for other files."""
    size = file.seek(0, 2)
    file.seek(max(size - ZIP_END.size, 0))
    large_start, large_mark, large_at, mark, start, comment = ZIP_END.unpack(file.read().rjust(ZIP_END.size))
    if large_mark == b"PK\x06\x07":
        start = large_start if large_at == size - ZIP_END.size else -1
    if mark != b"PK\x05\x06" or comment or not 0 <= size - start <= MAX_DIRECTORY_BYTES:
        expected = f"a zip that ends with a directory of at most {MAX_DIRECTORY_BYTES} bytes"
        raise CheckpointError(f"expected {expected}, got another end")
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if archive.start_dir != start:
            raise CheckpointError("expected a zip with one directory, got another")
    root = next(iter(entries), "").split("/")[0]
    if f"{root}/constants.pkl" in entries:
        how = "torch.save(torch.jit.load(path).state_dict(), new_path)"
        raise CheckpointError(f"expected a state dict, got TorchScript: save its state_dict() with {how}")
    compressed = [name for name, entry in entries.items() if entry.compress_type != zipfile.ZIP_STORED]
    if compressed or f"{root}/data.pkl" not in entries:
        expected = "data.pkl and storages without compression"
        raise CheckpointError(f"expected {expected}, got {(compressed or list(entries))[:3]}")

    def place(name: str) -> tuple[int, int]:
        file.seek(entries[name].header_offset + 26)
        lengths = struct.unpack("<2H", file.read(4))  # of the name, once more, and of extra fields
        return file.tell() + sum(lengths), entries[name].file_size

    file.seek(place(f"{root}/data.pkl")[0])
    storages: dict[str, torch.dtype] = {}
    value = read_pickle(file, storages)
    return value, {key: place(f"{root}/data/{key}") for key in storages}


def read_pickle(file: IO[bytes], storages: dict[str, torch.dtype]) -> Any:
    """The value of the pickle that starts here. Leaves `file` at its end, and adds the storages by key."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count == MAX_OPCODES:
            raise CheckpointError(f"expected a pickle of at most {MAX_OPCODES} opcodes, got more")
        kind, before = opcode.name, opcode.stack_before
        if kind == "MARK":
            marks.append(len(stack))
        elif kind.endswith("PUT") or kind == "MEMOIZE":
            memo[len(memo) if kind == "MEMOIZE" else argument] = stack[-1]  # type: ignore[index]
        elif kind.endswith("GET"):
            stack.append(memo[argument])  # type: ignore[index]
        else:
            marked = pickletools.markobject in before
            start = marks.pop() - before.index(pickletools.markobject) if marked else len(stack) - len(before)
            if start < 0:
                raise IndexError("pop from an empty stack")
            operands = stack[start:]
            del stack[start:]
            if kind == "STOP":
                return operands[0]
            if opcode.stack_after:
                stack.append(_result(kind, argument, operands, storages))
    raise AssertionError("genops ends with STOP or raises an error")


def _result(kind: str, argument: Any, operands: list[Any], storages: dict[str, torch.dtype]) -> Any:
    """What an opcode puts on the stack in place of its operands."""
    first = operands[0] if operands else None
    if kind in PLAIN:
        return argument
    if kind in ("EMPTY_LIST", "LIST"):
        return operands
    if "TUPLE" in kind:
        return tuple(operands)
    if "DICT" in kind:
        return _add({}, operands)
    if kind.startswith(("SETITEM", "APPEND", "ADDITEMS", "BUILD")):  # they change their first operand
        if kind.startswith("SETITEM") and isinstance(first, dict):
            _add(first, operands[1:])
        elif kind.startswith("APPEND") and isinstance(first, list):
            first.extend(operands[1:])
        return first
    if kind == "GLOBAL":
        return Skipped(argument.replace(" ", "."))
    if kind == "STACK_GLOBAL":
        return Skipped(".".join(each for each in operands if isinstance(each, str)))
    if kind == "BINPERSID" and isinstance(first, tuple) and len(first) in (5, 6) and isinstance(first[1], Skipped):
        dtype, key = DTYPES.get(first[1].name), first[2]
        if dtype is not None and isinstance(key, str):
            return Record(storages.setdefault(key, dtype), key)
    if kind == "REDUCE" and isinstance(first, Skipped) and isinstance(operands[1], tuple):
        return _called(first, *operands[1])
    return first if isinstance(first, Skipped) else Skipped(kind.lower())


def _add(table: dict[Any, Any], keys_values: list[Any]) -> dict[Any, Any]:
    """The table with more entries. All keys but strings count as one."""
    for key, value in zip(keys_values[::2], keys_values[1::2], strict=True):
        table[key if isinstance(key, str) else None] = value
    return table


def _called(function: Skipped, *arguments: Any) -> Any:
    """What a call gives, if it makes an empty dict or a tensor."""
    if function.name == "collections.OrderedDict" and not arguments:
        return {}
    if arguments and isinstance(arguments[0], Record):
        if function.name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
            return arguments[0]
        if function.name in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
            offset, size, stride = arguments[1:4]
            if len(size) <= MAX_DIMENSIONS and all(0 <= number < 2**63 for number in (offset, *size, *stride)):
                return arguments[0]._replace(offset=offset, size=size, stride=stride)
    return function

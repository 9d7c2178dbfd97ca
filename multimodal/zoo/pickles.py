"""Inspect a file of `torch.save` before `torch.load` reads it.

What does this protect that `torch.load(weights_only=True)`, a size cap and the torch floor do not? They keep the file
from running code, but not from harming the process. Small files that torch 2.11 and 2.15 read or stumble over:

- A compressed `data.pkl` of 1 MB inflates to 1 GB; `bytearray(2**31)` fills 2 GB; `OrderedDict(d)` copies `d`.
- A pair of twice a pair of twice ... is hashed or printed forever; colliding integers make a dict quadratic; hashing a
  million nested tuples overflows the C stack, a segmentation fault.

Therefore torch only gets what `torch.save` writes for tensors and plain values: zip entries without compression, some
opcodes, three functions with fixed numbers of arguments, strings and small integers as keys, and small tuples.
"""

import pickletools
import struct
import zipfile
from typing import IO, Any, NamedTuple

MAX_OPCODES = 300_000  # about 9 thousand tensors, or 3 thousand with the state of their optimizer
MAX_TUPLE_SIZE = 2_000  # including the items of nested tuples; random.getstate() has 629
MAX_DIRECTORY_BYTES = 1_000_000  # in a zip: about 15 thousand entries
FUNCTIONS = {  # with their numbers of arguments
    "collections OrderedDict": 0,
    "torch._utils _rebuild_tensor_v2": 6,
    "torch._utils _rebuild_parameter": 3,
}
STORAGES = "Double Float Half BFloat16 Long Int Short Char Byte Bool ComplexDouble ComplexFloat"
GLOBALS = {*FUNCTIONS, *(f"torch {name}Storage" for name in STORAGES.split())}
KEYS = {"BINUNICODE", "BININT", "BININT1", "BININT2"}  # larger integers can be made to collide
TUPLES = {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
OTHERS = """PROTO STOP MARK BINPUT LONG_BINPUT BINGET LONG_BINGET NONE NEWTRUE NEWFALSE BINFLOAT LONG1 EMPTY_LIST
APPEND APPENDS EMPTY_DICT SETITEM SETITEMS GLOBAL REDUCE BUILD BINPERSID"""
OPCODES = {*KEYS, *TUPLES, *OTHERS.split()}
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."  # two pickles
# The last records of a zip: start of the directory, mark and place of that record; mark, start, length of a comment
ZIP_END = struct.Struct("<48xQ4s4xQ4x4s12xLH")


class Value(NamedTuple):
    """A value on the stack of the unpickler."""

    kind: str  # the opcode that made it, or the name of a global
    items: int = -1  # in a tuple
    size: int = 1  # of a tuple, including the items of nested tuples


def legacy_problem(file: IO[bytes]) -> str | None:
    """Why torch should not read a file in the format before torch 1.6, five pickles and the storages, or None."""
    file.seek(0)
    head = file.read(len(LEGACY_START))
    if head != LEGACY_START:
        return f"expected a checkpoint of torch.save, got {head!r} ..."
    return next(filter(None, (_pickle_problem(file) for _ in range(3))), None)


def zip_problem(file: IO[bytes]) -> str | None:
    """Why torch should not read a zip, as "expected X, got Y", or None."""
    size = file.seek(0, 2)
    file.seek(max(size - ZIP_END.size, 0))
    large_start, large_mark, large_at, mark, start, comment = ZIP_END.unpack(file.read().rjust(ZIP_END.size))
    if large_mark == b"PK\x06\x07":
        start = large_start if large_at == size - ZIP_END.size else -1
    if mark != b"PK\x05\x06" or comment or not 0 <= size - start <= MAX_DIRECTORY_BYTES:
        return f"expected a zip that ends with a directory of at most {MAX_DIRECTORY_BYTES} bytes, got another end"
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        # torch has its own zip reader, which ignores the case of names: it must find the same entries
        if archive.start_dir != start or len({name.lower() for name in entries}) != len(archive.infolist()):
            return "expected a zip with one directory of different names, got another"
    root = next(iter(entries), "").split("/")[0]
    if f"{root}/constants.pkl" in entries:
        return "expected a state dict, got TorchScript: save its state_dict()"
    compressed = [name for name, entry in entries.items() if entry.compress_type != zipfile.ZIP_STORED]
    if compressed or f"{root}/data.pkl" not in entries:
        return f"expected data.pkl and storages without compression, got {(compressed or list(entries))[:3]}"
    file.seek(entries[f"{root}/data.pkl"].header_offset + 26)
    file.seek(sum(struct.unpack("<2H", file.read(4))), 1)  # the name once more, and extra fields
    return _pickle_problem(file)


def _pickle_problem(file: IO[bytes]) -> str | None:
    """Why torch should not read the pickle that starts here, or None. Leaves `file` at the end of the pickle."""
    stack: list[Value] = []
    marks: list[int] = []
    memo: dict[int, Value] = {}
    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        kind, before = opcode.name, opcode.stack_before
        if kind not in OPCODES or count == MAX_OPCODES:
            return f"expected at most {MAX_OPCODES} opcodes that torch.save writes, got {kind} after {count}"
        if kind == "GLOBAL" and argument not in GLOBALS:
            return f"expected only tensors and plain values, got the global {argument.replace(' ', '.')}"
        if kind == "MARK":
            marks.append(len(stack))
            continue
        if kind.endswith("PUT"):
            # a list or dict may have grown when it is fetched
            fixed = stack[-1].kind in KEYS or stack[-1].kind in GLOBALS or stack[-1].items >= 0
            memo[argument] = stack[-1] if fixed else Value("shared")
            continue
        marked = pickletools.markobject in before
        start = marks.pop() - before.index(pickletools.markobject) if marked else len(stack) - len(before)
        operands = stack[start:]
        del stack[start:]
        value = memo[argument] if kind.endswith("GET") else Value(argument if kind == "GLOBAL" else kind)
        if kind in TUPLES:
            value = Value("TUPLE", len(operands), 1 + sum(operand.size for operand in operands))
            if value.size > MAX_TUPLE_SIZE:
                return f"expected tuples of at most {MAX_TUPLE_SIZE} items, got {value.size}"
        elif kind == "REDUCE" and FUNCTIONS.get(operands[0].kind) != operands[1].items:
            return f"expected calls that torch.save writes, got one of {operands[0].kind}"
        elif kind.startswith("SETITEM") and any(key.kind not in KEYS for key in operands[1::2]):
            return "expected strings and small integers as keys, got others"
        elif kind == "SETITEM" and operands[0].kind == "EMPTY_DICT":
            value = Value("dict of one")
        elif kind == "BUILD" and operands[1].kind != "dict of one":  # it is copied: not the same one twice
            return f"expected only the attribute _metadata, got {operands[1].kind}"
        if opcode.stack_after:
            stack.append(value)
    return None

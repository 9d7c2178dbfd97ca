"""A dry run of a checkpoint's pickle: what `torch.load` would be told to make, before it makes anything.

`weights_only=True` keeps a pickle from running code, not from doing harm: in a hundred bytes it may ask for
`bytearray(2**40)`, for a tensor larger than its storage, or for a dict key of tuples in tuples whose hash
takes for ever. Here only what `torch.save` writes passes: numbers, strings, lists, tuples, dicts, and tensors
that lie inside their storages.
"""

import math
import pickletools
from collections import OrderedDict
from dataclasses import dataclass
from typing import IO, Any

from multimodal.zoo.reading.refusal import WeightsError
from multimodal.zoo.reading.safetensor import MAX_DIMENSIONS, MAX_SIZE

MAX_OPERATIONS = 300_000  # 9 thousand tensors, or 3 thousand with the state of their optimizer
MAX_KEY = 2**31  # of the integers: larger ones can be made to collide in a dict
ITEM_BYTES = {
    **{"DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "BoolStorage": 1},
    **{"LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1},
    **{"ComplexFloatStorage": 8, "ComplexDoubleStorage": 16},
}
GLOBALS = {
    *("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"),
    *(f"torch {name}" for name in ITEM_BYTES),
}


@dataclass(frozen=True)
class Global:
    """A name that the pickle imports, which is not imported here."""

    name: str


@dataclass(frozen=True)
class Storage:
    """The numbers that tensors are views of."""

    key: str
    dtype: str
    elements: int

    @property
    def bytes(self) -> int:
        return self.elements * ITEM_BYTES[self.dtype]


class Strided:
    """A tensor that would be made."""


def dry_run(file: IO[bytes]) -> tuple[object, dict[str, Storage]]:
    """The value of the pickle that starts here, with `Strided` for tensors, and the storages by key.

    Leaves `file` after the pickle. Raises WeightsError for whatever `torch.save` does not write; what is
    not a pickle raises what `pickletools` or the stack raise.
    """
    machine = _Machine()
    return machine.run(file), machine.storages


class _Machine:
    """The stack machine of `torch._weights_only_unpickler`, with nothing real on its stack."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under each open mark
        self.memo: dict[int, object] = {}
        self.storages: dict[str, Storage] = {}

    def run(self, file: IO[bytes]) -> object:
        for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if count == MAX_OPERATIONS:
                raise WeightsError(f"expected a pickle of at most {MAX_OPERATIONS} operations, got more")
            if operation.name == "STOP":
                break
            self.step(operation.name, argument)
        return self.stack.pop()

    def step(self, operation: str, argument: Any) -> None:
        stack = self.stack
        match operation:
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "NONE":
                stack.append(argument)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(operation == "NEWTRUE")
            case "MARK":
                self.below.append(stack)
                self.stack = []
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "TUPLE":
                items = tuple(self.since_mark())
                self.stack.append(items)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(operation[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "APPEND":
                self.extend([stack.pop()])
            case "APPENDS":
                self.extend(self.since_mark())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self.update([key, value])
            case "SETITEMS":
                self.update(self.since_mark())
            case "GLOBAL":
                if argument not in GLOBALS:
                    got = f"the global {argument.replace(' ', '.')}"
                    raise self.refusal("plain tensors and values", got)
                stack.append(Global(argument))
            case "BINPERSID":
                stack.append(self.storage(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self.call(function, arguments))
            case "BUILD":  # of a state dict: the versions of its layers, as an attribute
                state, target = stack.pop(), stack[-1]
                if type(target) is not OrderedDict or type(state) is not dict or set(state) != {"_metadata"}:
                    got = f"attributes of {type(target).__name__}"
                    raise self.refusal("_metadata of an OrderedDict", got)
            case "PROTO":
                if argument != 2:
                    raise self.refusal("pickle protocol 2", f"{argument}")
            case _:
                raise self.refusal("operations as torch.save writes them", operation)

    def since_mark(self) -> list:
        items, self.stack = self.stack, self.below.pop()
        return items

    def extend(self, items: list) -> None:
        if type(self.stack[-1]) is not list:
            raise self.refusal("items of a list", f"of {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(items)

    def update(self, items: list) -> None:
        table = self.stack[-1]
        if not isinstance(table, dict):
            raise self.refusal("keys of a dict", f"of {type(table).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str and not (type(key) is int and abs(key) < MAX_KEY):
                raise self.refusal("names or small integers as keys", f"one of {type(key).__name__}")
            table[key] = value

    def call(self, function: object, arguments: object) -> object:
        match function, arguments:
            case Global("collections OrderedDict"), ():
                return OrderedDict()
            case Global("torch._utils _rebuild_parameter"), (Strided() as tensor, bool(), OrderedDict()):
                return tensor
            case (
                Global("torch._utils _rebuild_tensor_v2"),
                (Storage() as storage, offset, tuple(size), tuple(stride), bool(), OrderedDict()),
            ):
                return self.view(storage, offset, size, stride)
        raise self.refusal("calls as torch.save writes them", f"one of {type(function).__name__}")

    def view(self, storage: Storage, offset: Any, size: tuple, stride: tuple) -> Strided:
        """A tensor inside its storage, with no more elements than that: strides of 0 make terabytes of one."""
        numbers = (offset, *size, *stride)
        if any(type(n) is not int for n in numbers) or not len(size) == len(stride) <= MAX_DIMENSIONS:
            raise self.refusal("an offset, sizes and as many strides", "something else")
        elements = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        outside = elements > storage.elements or (elements > 0 and last >= storage.elements)
        if outside or not all(0 <= n < MAX_SIZE for n in numbers):
            got = f"size {size}, strides {stride}, offset {offset}"
            raise self.refusal(f"a tensor inside its storage of {storage.elements} elements", got)
        return Strided()

    def storage(self, saved: object) -> Storage:
        match saved:
            case ("storage", Global(name), str(key), str(), int(elements), *view) if (
                name.removeprefix("torch ") in ITEM_BYTES and elements >= 0 and view in ([], [None])
            ):
                storage = Storage(key, name.removeprefix("torch "), elements)
            case _:
                raise self.refusal("storages as torch.save writes them", "something else")
        known = self.storages.setdefault(key, storage)
        if known != storage:
            raise self.refusal(f"{known}, as before", f"{storage}")
        return storage

    def refusal(self, expected: str, got: str) -> WeightsError:
        """The error, with the last string on the stack: in a state dict the name of the tensor."""
        values = (value for level in [self.stack, *reversed(self.below)] for value in reversed(level))
        name = next((value for value in values if isinstance(value, str)), None)
        return WeightsError(f"{f'{name!r}: ' if name is not None else ''}expected {expected}, got {got}")

"""Safetensors of any origin: the header is checked before any tensor is made.

The file is 8 bytes of length (little endian), a JSON header of that length, and the data:
`{"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, "__metadata__": {...}}`.
"""

import json
import math
import reprlib
from pathlib import Path
from typing import Any

from torch import Tensor

from multimodal.zoo.reading.refusal import WeightsError, kind_of

MAX_HEADER_BYTES = 2_000_000  # 20 thousand tensors; parsed in less than a second, whatever it is
MAX_DIMENSIONS = 64
MAX_SIZE = 2**48  # of one dimension: products of these stay small numbers
ITEM_BYTES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1},
}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, mapped into memory: what is written to them stays out of the file.

    Raises WeightsError where the header does not account for every byte exactly once.
    The format: https://huggingface.co/docs/safetensors
    """
    from safetensors.torch import load_file

    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
        length = int.from_bytes(head[:8], "little")
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise WeightsError(
                f"expected safetensors with a header of at most {MAX_HEADER_BYTES} bytes, got {kind_of(head)}: "
                f"a header of {length} bytes in a file of {size}"
            )
        file.seek(8)
        header = parse_json(file.read(length))
    check_header(header, size - 8 - length)
    tensors = load_file(path)
    # other writers leave the data at odd addresses, at which not every kernel can read
    return {name: t if t.data_ptr() % t.element_size() == 0 else t.clone() for name, t in tensors.items()}


def check_header(header: dict[str, Any], data_bytes: int) -> None:
    """Each entry must be of the right types and length, and all together must fill the data without holes."""
    spans = []
    for name, entry in header.items():
        if name == "__metadata__":  # words, which the library checks
            continue
        match entry:
            case {
                "dtype": str(dtype),
                "shape": list(shape),
                "data_offsets": [int(begin), int(end)],
                **rest,
            } if dtype in ITEM_BYTES and all(type(n) is int for n in shape) and not rest:
                pass
            case _:
                raise WeightsError(
                    f"expected {name!r} with dtype, shape and data_offsets, got {reprlib.repr(entry)}"
                )
        if len(shape) > MAX_DIMENSIONS or not all(0 <= n < MAX_SIZE for n in shape):
            raise WeightsError(
                f"expected {name!r} of 0 to 2^48 in at most {MAX_DIMENSIONS} dimensions, got {shape}"
            )
        expected = math.prod(shape) * ITEM_BYTES[dtype]
        if end - begin != expected:
            raise WeightsError(f"expected {name!r} of {expected} bytes, {dtype} {shape}, got {end - begin}")
        spans.append((begin, end, name))
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            what = "an overlap" if begin < at else "a hole"
            raise WeightsError(f"expected {name!r} at byte {at} of the data, got {begin}: {what}")
        at = end
    if at != data_bytes:
        raise WeightsError(f"expected {at} bytes of data, as the header says, got {data_bytes}")


def parse_json(data: bytes) -> dict[str, Any]:
    """A JSON object with each key once, in UTF-8."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_each_once)
    except RecursionError as error:
        raise WeightsError("expected JSON, got one nested too deeply") from error
    except WeightsError:
        raise
    except ValueError as error:  # of the encoding, of the syntax, of an integer with thousands of digits
        raise WeightsError(f"expected JSON, got {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"expected a JSON object, got {type(value).__name__}")
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise WeightsError(f"expected each key once, got {key!r} twice")
        table[key] = value
    return table

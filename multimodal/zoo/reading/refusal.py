"""How a checkpoint is refused: the error, and the words for what the file is instead."""

from multimodal.preprocess import printable

# What a file is by its first bytes
_KINDS = (
    (b"PK\x03\x04", "a zip archive"),
    (b"\x80", "a pickle"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a numpy array"),
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a Git LFS pointer: its file was not fetched"),
    (b"<", "a web page"),
    (b"{", "JSON"),
)
MAX_REASON = 240  # characters: what a file says of itself may be of any length


class WeightsError(ValueError):
    """A checkpoint that cannot be used; the message is the reason in a few words."""


def kind_of(head: bytes) -> str:
    """What a file is, as far as its first 512 bytes tell."""
    if not head:
        return "an empty file"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[8:9] == b"{" and not any(head[4:8]):
        return "safetensors"
    return next((kind for start, kind in _KINDS if head.startswith(start)), "something else")


def reason(error: Exception) -> str:
    """One short line, whatever torch, zipfile or the system have to say."""
    if isinstance(error, WeightsError):
        return _short(str(error))
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return _short(f"damaged or not supported: {type(error).__name__}: {error}")


def _short(text: str) -> str:
    line = printable(" ".join(text[: 2 * MAX_REASON].split()))
    return line if len(line) <= MAX_REASON else f"{line[:MAX_REASON]}..."

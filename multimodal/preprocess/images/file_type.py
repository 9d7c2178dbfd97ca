"""File types by their first bytes, for the error about a file that Pillow cannot identify."""

_IMAGES = (
    (b"\xff\xd8", "a JPEG"),
    (b"\x89PNG", "a PNG"),
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\x00", "a TIFF"),
    (b"MM\x00*", "a TIFF"),
)
_OTHERS = (
    (b"pk\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"%pdf", "a PDF"),
    (b"%!ps", "PostScript"),
    (b"8bps", "a Photoshop file"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML"),
    (b"<!doctype html", "HTML"),
    (b"<html", "HTML"),
    (b"version https://git-lfs", "a Git LFS pointer"),
)


def file_type(data: bytes) -> str:
    """A short name of the type of a file, guessed from its first bytes."""
    for start, name in _IMAGES:
        if data.startswith(start):
            return f"{name} whose header is damaged or of an unknown kind"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "a WEBP whose header is damaged or of an unknown kind"
    if data[4:8] == b"ftyp":
        return f"a file of type {data[8:12].decode('ascii', 'replace').strip()!r}"  # HEIC, MP4, ...
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for start, name in _OTHERS:
        if head.startswith(start):
            return name
    return "text" if head.isascii() and b"\x00" not in head else "unknown binary data"

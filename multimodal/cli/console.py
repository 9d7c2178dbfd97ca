"""Output: results on stdout, everything else on stderr."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import multimodal as mm
from multimodal.files import printable

Rows = Iterable[Sequence[str]]
NAME = {"overflow": "fold", "style": "cyan"}  # a column of file names: whole, if over several lines
TEXT = {"overflow": "fold"}
NUMBER = {"justify": "right", "no_wrap": True}


def say(text: str = "") -> None:
    """Write a line to stdout."""
    _write(text, sys.stdout)


def complain(text: str) -> None:
    """Write a line to stderr."""
    _write(f"multimodal: {' '.join(text.split())}", sys.stderr)


def say_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def on_terminal() -> bool:
    from rich.console import Console

    return Console().is_terminal


def show_table(rows: Rows, *columns: dict[str, Any]) -> None:
    """Print a table without borders that fits the width of the terminal. columns: fields of `rich.table.Column`"""
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(*(Column(**column) for column in columns), box=None, header_style="dim", pad_edge=False)
    table.padding = (0, 2, 0, 0)
    table.show_header = any("header" in column for column in columns)
    for row in rows:
        table.add_row(*map(printable, row))
    Console(highlight=False, emoji=False, markup=False).print(table)


def bar(score: float, width: int = 10) -> str:
    """A share as a bar."""
    eighths = round(8 * width * score)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def show_results(
    results: "mm.Results[Any]", as_json: bool, rows: Callable[[Any], Rows], *columns: dict[str, Any]
) -> None:
    """Print JSON, a table of the `rows` of each result on a terminal, or one line per result."""
    if as_json:
        say_json(results.to_dict())
    elif on_terminal():
        show_table((row for result in results for row in rows(result)), *columns)
    else:
        for result in results:
            say(str(result))


def name_rejected(rejected: "Iterable[mm.Rejected]") -> None:
    for item in rejected:
        complain(f"left out {item}")


def reason(error: Exception) -> str:
    """The message of an error, without the error number of the system."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return str(error) or type(error).__name__


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Replaces `warnings.showwarning`."""
    complain(str(message))


def _write(text: str, stream: Any) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    line = printable(text)
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")

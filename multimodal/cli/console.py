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


def say(text: str, stream: Any = None) -> None:
    """Write a line to `stream`, by default stdout."""
    stream = sys.stdout if stream is None else stream
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(printable(text).encode(encoding, "backslashreplace").decode(encoding) + "\n")


def complain(text: str) -> None:
    """Write a line to stderr."""
    say(f"multimodal: {' '.join(text.split())}", sys.stderr)


def on_terminal() -> bool:
    from rich.console import Console

    return Console().is_terminal


def show(as_json: bool, facts: dict[str, Any], *lines: str) -> None:
    """Print the facts as JSON, or else the lines."""
    if as_json:
        print(json.dumps(mm.results.to_plain(facts), indent=2))
    else:
        for line in lines:
            say(line)


def show_results(results: "mm.Results[Any]", as_json: bool, rows: Callable[[Any], Rows], *columns: Any) -> None:
    """Print JSON, a table of the `rows` of each result on a terminal, or one line per result."""
    if as_json:  # one at a time: all scores of many images among many classes would not fit into memory
        print('{"results": [', end="")
        for place, result in enumerate(results):
            print("," * (place > 0), json.dumps(result.to_dict(), indent=2))
        print('], "rejected":', json.dumps([item.to_dict() for item in results.rejected], indent=2) + "}")
    elif on_terminal():
        show_table((row for result in results for row in rows(result)), *columns)
    else:
        show(False, {}, *map(str, results))


def show_table(rows: Rows, *columns: dict[str, Any]) -> None:
    """Print a table without borders that fits the width of the terminal. columns: fields of `rich.table.Column`"""
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(*(Column(**column) for column in columns), box=None, show_header=False, pad_edge=False)
    table.padding = (0, 2, 0, 0)
    for row in rows:
        table.add_row(*map(printable, row))
    Console(highlight=False, emoji=False, markup=False).print(table)


def bar(score: float, width: int = 10) -> str:
    """A share as a bar."""
    eighths = round(8 * width * score)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def name_rejected(rejected: "Iterable[mm.Rejected]") -> None:
    for item in rejected:
        complain(f"left out {item}")


def reason(error: Exception) -> str:
    """The message of an error, without the error number of the system."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return str(error) or type(error).__name__

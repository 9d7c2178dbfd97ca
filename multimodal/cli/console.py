"""What is printed, and where: results on stdout, everything else on stderr."""

import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from multimodal.preprocess import printable
from multimodal.results import Rejected, Results


def say(text: str = "") -> None:
    """A line on stdout."""
    _write(text, sys.stdout)


def say_lines(text: str) -> None:
    for line in text.splitlines():
        say(line)


def complain(text: str) -> None:
    """A line on stderr."""
    _write(f"multimodal: {' '.join(text.split())}", sys.stderr)


def say_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def show_table(table: Table) -> None:
    """On a terminal, and as wide as that is."""
    Console(highlight=False, emoji=False, markup=False).print(table)


def on_terminal() -> bool:
    return Console().is_terminal


def show_results(results: Results[Any], as_json: bool, table: Table) -> None:
    """As JSON, as a table on a terminal, or a line for each where the output goes elsewhere."""
    if as_json:
        say_json(results.to_dict())
    elif on_terminal():
        show_table(table)
    else:
        for result in results:
            say(str(result))


def name_rejected(rejected: Iterable[Rejected]) -> None:
    for item in rejected:
        complain(f"left out {item}")


def reason(error: Exception) -> str:
    """The message, without the number that the system gives to it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return str(error) or type(error).__name__


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Takes the place of `warnings.showwarning`."""
    complain(str(message))


def _write(text: str, stream: Any) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    line = printable(text)
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")

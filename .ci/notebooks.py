"""Execute the notebooks from the first cell to the last, and print the time that each one takes.

python .ci/notebooks.py            run all notebooks in a copy of the folder and discard the outputs
python .ci/notebooks.py --write    run them and save the outputs
python .ci/notebooks.py 02 04      run only the notebooks whose names begin with 02 or 04

Fails if a cell raises an error, if an output contains a warning, or if a committed notebook has no image in its
outputs or is too large.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
TIMEOUT = 1200  # seconds for one cell
LARGEST = 1_500_000  # bytes


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="beginnings of file names; all notebooks by default")
    parser.add_argument("--write", action="store_true", help="save the outputs in place")
    arguments = parser.parse_args()
    paths = [
        path
        for path in sorted(FOLDER.glob("*.ipynb"))
        if not arguments.names or path.name.startswith(tuple(arguments.names))
    ]
    if not paths:
        print(f"no notebook in {FOLDER} begins with {arguments.names}", file=sys.stderr)
        return 2
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # figures become outputs
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # tqdm without ipywidgets prints bars as text
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "notebooks"  # with the files that notebooks open by a relative path
        shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("runs", ".ipynb_checkpoints"))
        shutil.copytree(ROOT / "data" / "recipes", Path(place) / "data" / "recipes")
        for path in paths:
            start = time.perf_counter()
            try:
                executed = execute(path, copy)
            except CellExecutionError as error:
                print(f"{path.name}: a cell failed\n{error}", file=sys.stderr)
                return 1
            wrong = mistakes(executed)
            if arguments.write:
                nbformat.write(executed, path)
            wrong += mistakes(nbformat.read(path, as_version=4))
            if path.stat().st_size > LARGEST:
                wrong.append(f"expected at most {LARGEST} bytes, got {path.stat().st_size}")
            if wrong:
                print("\n".join(f"{path.name}: {line}" for line in wrong), file=sys.stderr)
                return 1
            seconds = time.perf_counter() - start
            print(f"{path.name}: {seconds:.1f} s, {path.stat().st_size / 1e3:.0f} kB", flush=True)
    return 0


def execute(path: Path, folder: Path) -> NotebookNode:
    """Run all cells with `folder` as the working directory; return the notebook with new outputs."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        extra_arguments=["--log-level=40"],  # errors
    )
    return tidy(client.execute())


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Remove metadata that differs between machines and runs."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    return notebook


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join consecutive pieces of a stream, and keep only the final state of progress bars."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if kept and output.output_type == "stream" == kept[-1].output_type and output.name == kept[-1].name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = "".join(final_text(line) for line in output.text.splitlines(keepends=True))
    return [output for output in kept if output.output_type != "stream" or output.text.strip()]


def final_text(line: str) -> str:
    """The text that stays visible in a terminal: `splitlines` also splits at a carriage return."""
    return "" if line.endswith("\r") else line


def mistakes(notebook: NotebookNode) -> list[str]:
    """Violations of the rules in the outputs, one line each."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    wrong = [
        f"expected no warning, got {output.text.strip()!r}"
        for output in outputs
        if output.output_type == "stream" and "Warning" in output.text
    ]
    if not any(has_image(output.get("data", {})) for output in outputs):
        wrong.append("expected an image in the outputs, got none")
    return wrong


def has_image(data: NotebookNode) -> bool:
    return "image/png" in data or "image/jpeg" in data or "<img" in "".join(data.get("text/html", ""))


if __name__ == "__main__":
    sys.exit(main())

"""What importing the model class costs beside `import torch`: both from the same `python -X importtime` runs.

`import multimodal` itself imports nothing heavy; `multimodal.model` is what `mm.load` needs.

    python tests/benchmarks/import_time.py

Prints one JSON object. `ratio` is the median over the runs; the bar is 1.15.
"""

import argparse
import json
import statistics
import subprocess
import sys

BAR = 1.15


def cumulative(module: str = "multimodal.model") -> dict[str, int]:
    """Microseconds of each top-level import that `import module` makes, with all below it."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
    found: dict[str, int] = {}
    for line in lines:  # "import time: self [us] | cumulative | imported package"
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[1].strip().isdigit():
            found[parts[2].strip()] = int(parts[1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = [cumulative() for _ in range(parser.parse_args().runs + 1)][1:]  # the first fills the disk cache
    ratios = [run["multimodal.model"] / run["torch"] for run in runs]
    result = {
        "torch_seconds": round(statistics.median(run["torch"] for run in runs) / 1e6, 3),
        "multimodal_seconds": round(statistics.median(run["multimodal.model"] for run in runs) / 1e6, 3),
        "ratio": round(statistics.median(ratios), 3),
        "bar": BAR,
    }
    print(json.dumps(result))
    sys.exit(result["ratio"] > BAR)


if __name__ == "__main__":
    main()

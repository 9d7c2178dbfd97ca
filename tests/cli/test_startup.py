"""Help, version and completion answer without loading PyTorch or any model code."""

import os
import subprocess
import sys

import pytest

from multimodal.cli import COMMANDS

SLOW = {"torch", "numpy", "PIL", "rich", "tqdm", "huggingface_hub", "pydantic"}
CODE = """
import sys
from multimodal.cli import main
try:
    main({arguments!r})
finally:
    print(*sorted({{name.split(".")[0] for name in sys.modules}}), file=sys.stderr)
"""


def start(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE.format(arguments=list(arguments))],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | variables,
    )


def assert_light(done: subprocess.CompletedProcess[str], slow: set[str] = SLOW) -> None:
    imported = set(done.stderr.splitlines()[-1].split())
    assert "typer" in imported
    assert not slow & imported


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("evaluate", "--help")], ids=" ".join)
def test_help_and_version_import_nothing_slow(arguments):
    done = start(*arguments)
    assert done.stdout
    assert_light(done)


def test_a_usage_error_imports_nothing_slow():
    done = start("classify", "x.jpg")
    assert "--labels" in done.stderr
    assert_light(done, SLOW - {"pydantic"})  # typer converts arguments with it


def test_the_package_imports_nothing_until_it_is_used():
    code = "import sys, multimodal; assert 'torch' not in sys.modules; from multimodal import load; load.__call__"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_completion_of_commands_imports_nothing_slow():
    words = {"COMP_WORDS": "multimodal ", "COMP_CWORD": "1"}
    done = start(_MULTIMODAL_COMPLETE="complete_bash", **words)
    assert {command.__name__ for command in COMMANDS} <= set(done.stdout.split())
    assert_light(done)
    words = {"COMP_WORDS": "multimodal classify --mo", "COMP_CWORD": "2"}
    done = start(_MULTIMODAL_COMPLETE="complete_bash", **words)
    assert done.stdout.split() == ["--model"]


def test_show_completion_prints_a_script():
    done = start("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_MULTIMODAL_COMPLETE=complete_bash" in done.stdout

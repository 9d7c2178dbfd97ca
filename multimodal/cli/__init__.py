"""The command line: arguments in, text or JSON out.

It uses the package as a notebook would, `import multimodal as mm`, which imports a room when it is first used:
`--help`, `--version` and shell completion load neither PyTorch nor any model code.
"""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import multimodal as mm
from multimodal.cli import console
from multimodal.cli.checkpoints import convert, download, models, verify
from multimodal.cli.images import ask, caption, classify, demo, embed, index, match, search
from multimodal.cli.training import evaluate, shapes, train

__all__ = ["main"]

COMMANDS: tuple[Callable[..., int | None], ...] = (
    *(demo, classify, caption, ask, match, index, search, embed, shapes, train, evaluate),
    *(models, download, convert, verify),
)


class FastGroup(TyperGroup):
    """A group whose flags default to False: typer would import pydantic, 0.2 s, to convert None."""

    def get_params(self, context: Any) -> list[Any]:
        params = super().get_params(context)
        for param in params:
            if getattr(param, "is_flag", False) and param.default is None:
                param.default = False
        return params


app = typer.Typer(
    cls=FastGroup,
    rich_markup_mode=None,  # plain text: examples keep their line breaks
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    app.command()(command)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Classify, search and caption photographs, and train models that do; offline.

    \b
    Examples:
      multimodal demo
      multimodal classify cat.jpg --labels cat,dog
      multimodal search --help

    Exit codes: 0 success; 1 success, except for some images named on the command line; 2 wrong input;
    130 stopped with Ctrl-C.
    """
    if version:
        console.say(f"multimodal {mm.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. arguments: defaults to `sys.argv[1:]`.

    Wrong input is one line on stderr and code 2. An unexpected error keeps its traceback.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.filterwarnings("ignore", module="PIL")  # about damaged metadata of usable images
        warnings.filterwarnings("ignore", r"\d+ of \d+ \w+ could not be used")  # each is listed on stderr
        warnings.showwarning = lambda message, *_, **__: console.complain(str(message))
        try:
            code = app(arguments, prog_name="multimodal", standalone_mode=False)
            sys.stdout.flush()
        except BrokenPipeError:  # `multimodal ... | head`: the reader has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (KeyboardInterrupt, typer.Abort):
            return 130
        except (ValueError, OSError) as error:
            console.complain(console.reason(error))
            return 2
        except Exception as error:
            if not hasattr(error, "format_message"):  # every usage error of typer has one
                raise
            console.complain(error.format_message())
            return 2
    return code or 0

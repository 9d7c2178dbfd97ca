"""The command line: arguments in, text or JSON out. All work is done in the rooms below."""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from multimodal import __version__
from multimodal.cli import console
from multimodal.cli.ask import ask, match
from multimodal.cli.checkpoints import convert, download, models, verify
from multimodal.cli.demo import demo
from multimodal.cli.find import index, search
from multimodal.cli.images import caption, classify, embed
from multimodal.cli.make import shapes, train
from multimodal.cli.measure import evaluate
from multimodal.training import TrainingError

__all__ = ["main"]

COMMANDS: tuple[Callable[..., int | None], ...] = (
    demo,
    classify,
    caption,
    ask,
    match,
    index,
    search,
    embed,
    shapes,
    train,
    evaluate,
    models,
    download,
    convert,
    verify,
)

app = typer.Typer(
    rich_markup_mode=None,  # help is plain text: examples keep their lines
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    app.command()(command)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Say which version this is.")] = False,
) -> None:
    """Classify, search and caption photographs, and train models that do; offline.

    \b
    Examples:
      multimodal demo
      multimodal classify cat.jpg --labels cat,dog
      multimodal search --help

    Exit codes: 0 all done; 1 done, but some pictures named on the command line could not be used;
    2 wrong input; 130 stopped with Ctrl-C.
    """
    if version:
        console.say(f"multimodal {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command (`sys.argv` where None) and return its exit code.

    Wrong input is one line on stderr and code 2. An error that nobody expected keeps its traceback.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.filterwarnings("ignore", r"\d+ of \d+ images could not be used")  # each is named below
        warnings.showwarning = console.show_warning
        try:
            code = app(
                args=None if arguments is None else list(arguments),
                prog_name="multimodal",
                standalone_mode=False,
            )
            sys.stdout.flush()
        except BrokenPipeError:  # of `multimodal ... | head`: nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (KeyboardInterrupt, typer.Abort):
            return 130
        except TrainingError as error:
            console.complain(str(error))
            return 1
        except (ValueError, OSError) as error:
            console.complain(console.reason(error))
            return 2
        except Exception as error:
            if not hasattr(error, "format_message"):  # not one of typer's
                raise
            console.complain(error.format_message())
            return 2
    return code or 0

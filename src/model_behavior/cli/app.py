"""The command `model-behavior`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from model_behavior.cli import benchmark_commands, cache_commands, demo_command, encoder_commands, map_command
from model_behavior.cli.console import show_warnings, stderr
from model_behavior.errors import DataError, ModelBehaviorError, UsageError

OK, FAILURE, USAGE, UNUSABLE_DATA = 0, 1, 2, 3

app = typer.Typer(
    name="model-behavior",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Embeddings of LLMs from what they answer, learned from pairwise votes. Start with `model-behavior demo`.",
)
encoder_commands.register(app)
map_command.register(app)
demo_command.register(app)
app.add_typer(benchmark_commands.app, name="benchmark")
app.add_typer(cache_commands.app, name="cache")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits with 0 ok, 1 failure, 2 usage, 3 unusable data, 130 interrupted."""
    # A frozen text encoder loads from disk; its libraries' progress bars and hints would drown ours.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    show_warnings()
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    command = typer.main.get_command(app)
    try:
        # Ends with SystemExit in any case: 2 for usage, 130 for an interruption.
        command.main(
            list(arguments) if arguments is not None else None,
            prog_name="model-behavior",
            auto_envvar_prefix="MODEL_BEHAVIOR",
        )
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else OK
    except ModelBehaviorError as error:
        stderr().print(f"error: {error}", markup=False, style="red")
        return USAGE if isinstance(error, UsageError) else UNUSABLE_DATA if isinstance(error, DataError) else FAILURE
    except OSError as error:
        stderr().print(f"error: {error}", markup=False, style="red")
        return FAILURE
    return OK

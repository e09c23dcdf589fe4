"""The command `model-behavior`."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from model_behavior.cli import (
    benchmark_commands,
    cache_commands,
    catalog_commands,
    demo_command,
    encoder_commands,
    evaluate_command,
    map_command,
    route_commands,
    scoring_commands,
    serve_commands,
)
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
scoring_commands.register(app)
catalog_commands.register(app)
evaluate_command.register(app)
map_command.register(app)
route_commands.register(app)
serve_commands.register(app)
demo_command.register(app)
app.add_typer(benchmark_commands.app, name="benchmark")
app.add_typer(cache_commands.app, name="cache")


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    show_warnings()
    command = typer.main.get_command(app)
    try:
        # Ends with SystemExit in any case: 2 for usage, 130 for an interruption.
        command.main(
            list(arguments) if arguments is not None else None,
            prog_name="model-behavior",
            auto_envvar_prefix="MODEL_BEHAVIOR",
        )
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else OK if stop.code is None else FAILURE
    except ModelBehaviorError as error:
        stderr().print(f"error: {error}", markup=False, style="red")
        return USAGE if isinstance(error, UsageError) else UNUSABLE_DATA if isinstance(error, DataError) else FAILURE
    except OSError as error:
        stderr().print(f"error: {error}", markup=False, style="red")
        return FAILURE
    return OK

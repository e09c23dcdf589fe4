"""The command `model-behavior`: the table of its commands, and the exit codes for errors.

A command is a function in a module beside this one. The module is loaded only when the command is called, so that the
list of commands appears at once.
"""

from __future__ import annotations

import os
import sys
from collections import UserDict
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Literal, TypeAlias

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from model_behavior.cli.configuration import check_moved
from model_behavior.cli.console import clear_bar, show_warnings, stderr
from model_behavior.errors import DataError, ModelBehaviorError, UsageError

OK, FAILURE, USAGE, UNUSABLE_DATA = 0, 1, 2, 3

_MARKUP: Literal["markdown"] = "markdown"
_Loaded: TypeAlias = TyperCommand | TyperGroup


@dataclass(frozen=True)
class Row:
    """A command in the table.

    Attributes:
        name: word that calls it.
        home: module and function, or the commands of a group.
        summary: line of the list of commands; the function's docstring is the help of the command itself.
        examples: calls, shown below the help.
    """

    name: str
    home: str | tuple[Row, ...]
    summary: str
    examples: tuple[str, ...] = ()

    def load(self, panel: str | None = None) -> _Loaded:
        """The command itself, in a panel of the help."""
        if not isinstance(self.home, str):
            return CommandGroup(
                {None: self.home},
                name=self.name,
                help=self.summary,
                no_args_is_help=True,
                rich_markup_mode=_MARKUP,
                rich_help_panel=panel,
            )
        module, _, function = self.home.partition(":")
        calls = " · ".join(f"`model-behavior {example}`" for example in self.examples)
        alone = typer.Typer(add_completion=False, rich_markup_mode=_MARKUP, pretty_exceptions_enable=False)
        alone.command(
            self.name,
            short_help=self.summary,
            epilog=f"Example{'s' * (len(self.examples) > 1)}: {calls}",
            rich_help_panel=panel,
        )(getattr(import_module(f"model_behavior.cli.{module}"), function))
        command = typer.main.get_command(alone)
        assert isinstance(command, TyperCommand)
        for parameter in command.params:  # every option has a variable of its own, which the general help says once
            if isinstance(parameter, TyperOption):
                parameter.show_envvar = parameter.envvar is not None
        return command


_ONBOARDING = "{} arena chat_log.jsonl --model my-model --output arena2"

PANELS: Mapping[str | None, tuple[Row, ...]] = {
    "Start here": (
        Row(
            "demo",
            "demo_command:run_demo",
            "Train on a built-in synthetic arena and rate models without votes. Takes a minute.",
            ("demo --output demo",),
        ),
    ),
    "Train": (
        Row(
            "train",
            "train_commands:train",
            "Train both stages on votes, published ratings, or both.",
            (
                "train votes.parquet --output arena --seed 1",
                "train --ratings leaderboard.csv --responses answers.parquet --output arena",
                "train --show-config",
            ),
        ),
        Row(
            "train-encoder",
            "train_commands:train_encoder",
            "Stage 1: train the encoder and embed the models that were voted on.",
            (
                "train-encoder votes.parquet --output arena",
                "train-encoder shards/ more.csv.gz --output arena --hold-out gpt-4 --seed 1",
                "train-encoder votes.parquet --output arena --encoder style --encoder lexical --encoder finetuned "
                "--config lora.toml",
            ),
        ),
        Row(
            "train-scorer",
            "train_commands:train_scorer",
            "Stage 2: train the scorer on the embeddings.",
            ("train-scorer arena votes.parquet",),
        ),
        Row(
            "update",
            "train_commands:update",
            "Count new votes in the ratings, in seconds.",
            ("update arena", "update arena new_votes.parquet"),
        ),
    ),
    "New models": (
        Row(
            "onboard",
            "catalog_commands:onboard",
            "Add models from their responses, without votes and without training.",
            (_ONBOARDING.format("onboard"),),
        ),
        Row(
            "embed-models",
            "catalog_commands:onboard",
            "Alias of `onboard`.",
            (_ONBOARDING.format("embed-models"),),
        ),
        Row(
            "prompts",
            "interview_commands:prompts",
            "Choose the prompts that tell most about a new model.",
            (
                "prompts arena --number 8 --output prompts.jsonl",
                "prompts arena --number 8 --for my-model --batch",
            ),
        ),
        Row(
            "ask",
            "interview_commands:ask",
            "Ask a model at an OpenAI-compatible endpoint these prompts, and rate it.",
            ("ask arena --base-url http://localhost:8000/v1 --model my-model --output answers.jsonl --onboard",),
        ),
        Row(
            "neighbours",
            "catalog_commands:neighbours",
            "Show the models most similar to a model, and their differences.",
            ("neighbours arena gpt-4 --number 3",),
        ),
        Row(
            "identify",
            "catalog_commands:identify",
            "Identify which model wrote some responses, if any.",
            ("identify arena chat_log.jsonl --prior-none 0.2",),
        ),
        Row(
            "drift",
            "drift_commands:drift",
            "Test whether a model's answers, or people's votes, have changed.",
            ("drift arena today.jsonl --model my-model", "drift arena"),
        ),
        Row("remove", "catalog_commands:remove", "Remove models.", ("remove arena old-model",)),
        Row(
            "encode",
            "catalog_commands:encode",
            "Embed the (prompt, response) pairs of a file.",
            ("encode arena responses.parquet --output vectors.parquet",),
        ),
    ),
    "Ask": (
        Row(
            "rank",
            "ask_commands:rank",
            "Rank all models, over all prompts or on a given one.",
            ("rank arena", 'rank arena --prompt "Is 7 prime?" --json'),
        ),
        Row(
            "rate",
            "ask_commands:rate",
            "Rate models by votes alone, of any number of files, without training.",
            ("rate votes/ --workers 2", "rate s3://bucket/votes/ --json"),
        ),
        Row(
            "predict",
            "ask_commands:predict",
            "Predict votes for the rows of a file.",
            ("predict arena pairs.parquet --output predictions.parquet",),
        ),
        Row(
            "route",
            "route_commands:route",
            "Choose a model for each prompt, by expected win rate and cost.",
            (
                "route arena --prompt 'Prove it.' --costs costs.json --threshold 2",
                "route arena --prompts prompts.txt --costs costs.json --budget 0.01 --output out.parquet",
            ),
        ),
        Row(
            "calibrate-threshold",
            "route_commands:calibrate_threshold",
            "Find the threshold of `route` that meets a budget.",
            ("calibrate-threshold arena prompts.txt --costs costs.json --budget 0.01 --curve curve.html",),
        ),
        Row(
            "map",
            "map_command:draw_map",
            "Draw a map of the models: similar models are close together.",
            ("map arena --output map.html", "map arena --full --output models.html"),
        ),
    ),
    "Serve": (
        Row(
            "serve",
            "serve_commands:serve",
            "Serve the web page, the API and routed chat completions.",
            (
                "serve arena --port 8000",
                "serve arena --costs costs.json --upstreams upstreams.toml",
                "serve arena --host 0.0.0.0 --keys keys.toml",
            ),
        ),
        Row(
            "create-key",
            "serve_commands:create_key",
            "Create an API key for `serve`.",
            ("create-key keys.toml --name ci --scope read",),
        ),
    ),
    "Measure": (
        Row(
            "evaluate",
            "measure_commands:evaluate_artifact",
            "Evaluate both stages on votes, compared with baselines.",
            ("evaluate arena votes.parquet --json",),
        ),
        Row(
            "benchmark",
            (
                Row(
                    "stage1",
                    "benchmark_commands:benchmark_stage1",
                    "Benchmark stage 1: triplet accuracy, identification, collapse, new LLMs.",
                    ("benchmark stage1 votes.parquet --output stage1.md",),
                ),
                Row(
                    "stage2",
                    "benchmark_commands:benchmark_stage2",
                    "Benchmark stage 2: accuracy, log loss and calibration, new LLMs.",
                    ("benchmark stage2 votes.parquet --output stage2.md",),
                ),
                Row(
                    "drift",
                    "benchmark_commands:benchmark_drift",
                    "Benchmark drift: power against swaps of models, false alarms.",
                    ("benchmark drift arena responses.parquet --output drift.md",),
                ),
                Row(
                    "speed",
                    "benchmark_commands:benchmark_speed",
                    "Benchmark the speed of every stage, compared with sentence-transformers.",
                    ("benchmark speed votes.parquet --output speed.md",),
                ),
                Row(
                    "scale",
                    "benchmark_commands:benchmark_scale",
                    "Benchmark time and memory at growing numbers of votes.",
                    ("benchmark scale votes.parquet --output scale.md",),
                ),
                Row(
                    "catalog",
                    "benchmark_commands:benchmark_catalog",
                    "Benchmark adding one model to catalogs of thousands.",
                    ("benchmark catalog arena responses.jsonl --output catalog.md",),
                ),
                Row(
                    "service",
                    "benchmark_commands:benchmark_service",
                    "Benchmark the service under load.",
                    ("benchmark service arena --output service.md",),
                ),
            ),
            "Train, evaluate against baselines, and write a report.",
        ),
        Row(
            "cache",
            (
                Row(
                    "info",
                    "measure_commands:cache_info",
                    "Show the cache folder and its contents.",
                    ("cache info --json",),
                ),
                Row("clear", "measure_commands:cache_clear", "Remove all entries.", ("cache clear",)),
            ),
            "Show or clear the cache of text features and triplets.",
        ),
    ),
}
"""All commands, by the panel of the help that lists them."""


class _LoadedWhenCalled(UserDict[str, Any]):
    """Commands by name, each made by its function when it is first asked for."""

    def __getitem__(self, name: str) -> _Loaded:
        value = self.data[name]
        if isinstance(value, partial):
            value = self.data[name] = value()
        command: _Loaded = value
        return command


class CommandGroup(TyperGroup):
    """Commands of the table; to list them needs none of their modules."""

    def __init__(self, panels: Mapping[str | None, tuple[Row, ...]] = PANELS, **settings: Any) -> None:
        super().__init__(**settings)
        self._rows = [(panel, row) for panel, rows in panels.items() for row in rows]
        self.commands = _LoadedWhenCalled({row.name: partial(row.load, panel) for panel, row in self._rows})

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of the table."""
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Writes the help, with the summaries of the table."""
        listed = copy(self)
        listed.commands = {
            row.name: TyperCommand(row.name, help=row.summary, rich_help_panel=panel) for panel, row in self._rows
        }
        TyperGroup.format_help(listed, ctx, formatter)


app = typer.Typer(
    cls=CommandGroup,
    name="model-behavior",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=_MARKUP,
    pretty_exceptions_enable=False,
)


@app.callback()
def _describe() -> None:
    """Embeddings of LLMs from what they answer, learned from pairwise votes.

    Every option can also be set by an environment variable: `MODEL_BEHAVIOR_TRAIN_ENCODER_EPOCHS=20` is
    `train-encoder --epochs 20`.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    show_warnings()
    command = typer.main.get_command(app)
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _check_moved_options(words)
        # Ends with SystemExit in any case: 2 for usage, 130 for an interruption.
        command.main(words, prog_name="model-behavior", auto_envvar_prefix="MODEL_BEHAVIOR")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else OK if stop.code is None else FAILURE
    except ModelBehaviorError as error:
        stderr().print(f"error: {error}", markup=False, style="red")
        return USAGE if isinstance(error, UsageError) else UNUSABLE_DATA if isinstance(error, DataError) else FAILURE
    except OSError as error:
        stderr().print(f"error: {error}", markup=False, style="red")
        return FAILURE
    finally:
        clear_bar()
    return OK


def _check_moved_options(words: Sequence[str]) -> None:
    """Says where an option of an earlier release, on the command line or in the environment, has gone."""
    if not words or words[0] not in ("train", "train-encoder"):
        return
    prefix = f"MODEL_BEHAVIOR_{words[0]}_".replace("-", "_").upper()
    named = {word: word[2:] for word in (word.partition("=")[0] for word in words) if word.startswith("--")}
    named |= {f"${name}": name.removeprefix(prefix) for name in os.environ if name.startswith(prefix)}
    check_moved(named)

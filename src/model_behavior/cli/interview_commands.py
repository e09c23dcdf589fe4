"""`model-behavior prompts` and `ask`: which prompts tell most about a new model, and its answers to them."""

from __future__ import annotations

import json as json_format
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from model_behavior.artifact.certainty import check_half_width
from model_behavior.catalog.asking import SuggestedPrompt
from model_behavior.cli.catalog_commands import describe_certainty
from model_behavior.cli.console import Progress, counted, print_result, stderr
from model_behavior.cli.options import (
    ArtifactFolder,
    BackendChoice,
    CacheFolder,
    Change,
    Json,
    ScaleOption,
    open_scored,
)
from model_behavior.errors import UsageError
from model_behavior.files import check_output_file, written_aside
from model_behavior.interview import AnswerFile, Endpoint, Interview, to_batch, to_messages

_KEY = "OPENAI_API_KEY"
_PLACEHOLDER = "MODEL"


def prompts(
    folder: ArtifactFolder,
    number: Annotated[int, typer.Option(min=1, help="Number of prompts.")] = 8,
    known: Annotated[
        str | None,
        typer.Option("--for", metavar="MODEL", help="Model in DIR that answered some already, to go on from these."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="JSONL file to write; standard output by default.")] = None,
    batch: Annotated[bool, typer.Option("--batch", help="Write requests of OpenAI's Batch API.")] = False,
    model: Annotated[
        str | None, typer.Option(help="Name of the model in the requests of --batch. [default: that of --for]")
    ] = None,
    cache: CacheFolder = None,
    backend: BackendChoice = "auto",
    json: Json = False,
) -> None:
    """Choose the prompts that tell most about a new model, in the order to ask them, as chat messages in JSONL."""
    if output is not None:
        check_output_file(output)
    found = open_scored(folder, cache, backend).prompts(number, known)
    asked = model or known or _PLACEHOLDER
    if batch and asked == _PLACEHOLDER:
        stderr().print(f"the requests name the model {_PLACEHOLDER}; --model NAME sets it", markup=False)
    rows = to_batch(found, asked) if batch else to_messages(found)
    lines = "".join(json_format.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if output is not None:
        with written_aside(output) as aside:
            aside.write_text(lines, "utf-8")
    stderr().print(_describe(found, number), markup=False)
    if json:
        print_result([asdict(each) for each in found], True, "")
    elif output is None:
        sys.stdout.write(lines)


def ask(
    folder: ArtifactFolder,
    base_url: Annotated[str, typer.Option(help="URL of an OpenAI-compatible API, up to and including /v1.")],
    model: Annotated[str, typer.Option(help="Name of the model at the endpoint, and in DIR.")],
    output: Annotated[Path, typer.Option(help="JSONL file of the answers; one that is there is gone on with.")],
    number: Annotated[int, typer.Option(min=1, help="Number of answers.")] = 32,
    until_half_width: Annotated[
        float | None,
        typer.Option(help="Half-width of the rating's 95 % interval, in Elo, at which to stop early."),
    ] = None,
    onboard: Annotated[bool, typer.Option("--onboard", help="Add the model to DIR at the end.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the model in DIR, if not the endpoint's.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, help="Sampling temperature.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer in tokens.")] = None,
    key_variable: Annotated[
        str, typer.Option("--api-key-env", metavar="NAME", help="Environment variable that holds the API key.")
    ] = _KEY,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at once.")] = Endpoint.concurrency,
    attempts: Annotated[int, typer.Option(min=1, help="Attempts at one prompt.")] = Endpoint.attempts,
    timeout: Annotated[
        float, typer.Option(min=1, help="Longest wait for an answer, in seconds.")
    ] = Endpoint.timeout_seconds,
    scale: ScaleOption = "elo",
    cache: CacheFolder = None,
    backend: BackendChoice = "auto",
    json: Json = False,
) -> None:
    """Ask a model at an OpenAI-compatible endpoint the prompts that tell most about it; an interrupted run resumes."""
    check_half_width(until_half_width)
    check_output_file(output)
    endpoint = Endpoint(
        base_url,
        model,
        _read_key(key_variable),
        temperature,
        system,
        max_tokens,
        concurrency,
        attempts,
        timeout_seconds=timeout,
    )
    change = Change(folder, None, lambda: open_scored(folder, cache, backend))
    file = AnswerFile(output, name or model, endpoint)
    if file.rows:
        stderr().print(f"{output}: {len(file.rows)} answers are there already", markup=False)
    progress = partial(Progress().show, "asking")
    interview = Interview(change.before, endpoint, file, name or model, number, until_half_width, progress)
    try:
        interview.run()
    except KeyboardInterrupt:
        stderr().print(f"{len(file.rows)} answers are in {output}. To go on, run the same command.", markup=False)
        raise
    rated = change.apply(lambda loaded: loaded.onboard(file.rows, interview.name)) if onboard else interview.rated()
    wanted = until_half_width if scale == "elo" else None
    certainty = rated.certainty([interview.name], wanted, scale=scale)
    spread = float(rated.models.spread[rated.models.names.index(interview.name)])
    driven = rated.rating_drivers(interview.name, scale=scale)
    text = describe_certainty(certainty, [spread], scale, [driven])
    tail = f"added to {folder}" if onboard else f"to add it: model-behavior onboard {folder} {output}"
    value = {"output": str(output), "answers": len(file.rows), "onboarded": onboard, **asdict(certainty[0])}
    value["rating_drivers"] = driven and asdict(driven)
    print_result(value, json, f"{output}: {len(file.rows)} answers; {tail}\n{text}")


def _read_key(variable: str) -> str:
    """The API key; "" where the usual variable is not set, since local servers need none."""
    key = os.environ.get(variable, "")
    if not key and variable != _KEY:
        raise UsageError(f"--api-key-env {variable}: this environment variable is not set")
    return key


def _describe(found: Sequence[SuggestedPrompt], number: int) -> str:
    fewer = f" (no more are kept than these; {number} were asked for)" if len(found) < number else ""
    left = f"; their answers leave {found[-1].left:.0%} of the rating's variance" if found else ""
    return f"{counted(len(found), 'prompt')}{fewer}{left}"

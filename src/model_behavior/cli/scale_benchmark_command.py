"""`model-behavior benchmark scale`."""

from __future__ import annotations

from typing import Annotated

import typer

from model_behavior.cli.benchmark_commands import Output, write_report
from model_behavior.cli.console import Progress, print_load_report, print_result
from model_behavior.cli.options import Json
from model_behavior.data.loading import load_votes
from model_behavior.errors import UsageError
from model_behavior.evaluation.plain_values import plain_values
from model_behavior.evaluation.scale_benchmark import measure_sizes, write_scale_report
from model_behavior.files import check_output_file

_SIZES = "10000,100000,1000000"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("scale", epilog="Example: `model-behavior benchmark scale votes.parquet --output scale.md`")(
        benchmark_scale
    )


def benchmark_scale(
    votes: Annotated[str, typer.Argument(help="The real votes that larger files are made of.")],
    output: Output,
    sizes: Annotated[str, typer.Option(help="Numbers of votes, with commas between them.")] = _SIZES,
    seed: Annotated[int, typer.Option(help="Seed of the perturbations.")] = 0,
    json: Json = False,
) -> None:
    """CPU time and memory from file to triplets, at growing numbers of votes made from real ones."""
    check_output_file(output)
    wanted = _parse_sizes(sizes)
    data, report = load_votes(votes)
    print_load_report(report)
    progress = Progress()
    results = measure_sizes(data, wanted, seed, lambda done, total: progress.show("sizes", done, total))
    progress.close()
    source = report.sources[0].source.rsplit("/", 1)[-1]
    tail = f" --sizes {sizes}" if sizes != _SIZES else ""
    tail += f" --seed {seed}" if seed else ""
    command = f"model-behavior benchmark scale {source} --output {output.name}{tail}"
    write_report(output, *write_scale_report(results, source, command))
    last = results[-1]
    text = f"{output}: {last.votes:,} votes in {last.seconds:.0f} s of CPU and {last.peak_bytes / 2**20:,.0f} MiB"
    print_result({"output": str(output), "results": plain_values(results)}, json, text)


def _parse_sizes(text: str) -> list[int]:
    try:
        sizes = [int(size) for size in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1 or len(set(sizes)) < len(sizes):
        raise UsageError(f"--sizes {text!r}: different whole numbers of 1 or more are needed, such as {_SIZES}")
    return sizes

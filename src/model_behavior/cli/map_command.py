"""`model-behavior map`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_behavior.artifact import Artifact
from model_behavior.cli.console import Progress, print_result
from model_behavior.cli.options import ArtifactFolder, Json
from model_behavior.errors import UsageError
from model_behavior.evaluation.model_map import MapData, Method, write_map
from model_behavior.files import check_output_file
from model_behavior.serving.service import Service
from model_behavior.serving.static_page import write_static_page


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        "map",
        epilog="Examples: `model-behavior map encoder --output map.html` · "
        "`model-behavior map encoder --full --output models.html`",
    )(draw_map)


def draw_map(
    folder: ArtifactFolder,
    output: Annotated[Path, typer.Option(help="HTML file to write.")],
    method: Annotated[Method, typer.Option(help="How to get to two dimensions.")] = "pca",
    mark: Annotated[list[str] | None, typer.Option(help="Model to draw as a star; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of t-SNE and UMAP.")] = 0,
    full: Annotated[
        bool, typer.Option("--full", help="The page of `serve` in one file: map, leaderboard, comparisons.")
    ] = False,
    json: Json = False,
) -> None:
    """Draw the models as one HTML page that needs no network: near is alike."""
    check_output_file(output)
    if full:
        n_models = _write_full_page(folder, output, method, mark or [])
    else:
        n_models = _write_plain_map(folder, output, method, mark or [], seed)
    print_result({"output": str(output), "models": n_models}, json, f"{output}: map of {n_models} models")


def _write_full_page(folder: Path, output: Path, method: str, mark: list[str]) -> int:
    if method != "pca":
        raise UsageError(f"--full --method {method}: it draws where a model may lie, on axes. Fix: --method pca")
    service = Service(folder)
    progress = Progress()
    write_static_page(output, service, mark, lambda done, total: progress.show("comparing models", done, total))
    progress.close()
    return len(service.snapshot.rows)


def _write_plain_map(folder: Path, output: Path, method: Method, mark: list[str], seed: int) -> int:
    loaded = Artifact.load(folder)
    models = loaded.models
    unknown = sorted(set(mark) - set(models.names))
    if unknown:
        raise UsageError(f"--mark {', '.join(unknown)}: no such model; there are {', '.join(models.names)}")
    rated = loaded.encoder.config.objectives.vote > 0
    data = MapData(
        names=models.names,
        embeddings=models.mean.astype("float64"),
        counts=models.count,
        spread=models.spread.astype("float64"),
        score=loaded.encoder.rate(models.mean).astype("float64") if rated else None,
        marked=frozenset(mark),
        title=f"{len(models)} models by what they answer",
        subtitle="Models that answer alike lie close to each other. Colour: quality read from the embedding."
        if rated
        else "Models that answer alike lie close to each other.",
    )
    write_map(output, data, method=method, seed=seed)
    return len(models)

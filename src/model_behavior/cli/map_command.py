"""`model-behavior map`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from model_behavior import artifact
from model_behavior.cli.console import print_result
from model_behavior.cli.options import ArtifactFolder, Json
from model_behavior.errors import UsageError
from model_behavior.evaluation.model_map import MapData, write_map
from model_behavior.files import check_output_file


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("map", epilog="Example: `model-behavior map encoder --output map.html`")(draw_map)


def draw_map(
    folder: ArtifactFolder,
    output: Annotated[Path, typer.Option(help="HTML file to write.")],
    method: Annotated[Literal["pca", "tsne", "umap"], typer.Option(help="How to get to two dimensions.")] = "pca",
    mark: Annotated[list[str] | None, typer.Option(help="Model to draw as a star; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of t-SNE and UMAP.")] = 0,
    json: Json = False,
) -> None:
    """Draw the models as one HTML page that needs no network: near is alike."""
    check_output_file(output)
    loaded = artifact.load(folder)
    models = loaded.models
    unknown = sorted(set(mark or ()) - set(models.names))
    if unknown:
        raise UsageError(f"--mark {', '.join(unknown)}: no such model; there are {', '.join(models.names)}")
    rated = loaded.encoder.config.objectives.vote > 0
    data = MapData(
        names=models.names,
        embeddings=models.mean.astype("float64"),
        counts=models.count,
        spread=models.spread.astype("float64"),
        score=loaded.encoder.rate(models.mean).astype("float64") if rated else None,
        marked=frozenset(mark or ()),
        title=f"{len(models)} models by what they answer",
        subtitle="Models that answer alike lie close to each other. Colour: quality read from the embedding."
        if rated
        else "Models that answer alike lie close to each other.",
    )
    write_map(output, data, method=method, seed=seed)
    print_result({"output": str(output), "models": len(models)}, json, f"{output}: map of {len(models)} models")

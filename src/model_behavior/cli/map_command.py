"""`model-behavior map`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from model_behavior.catalog.places import Method
from model_behavior.cli.console import Progress, print_result
from model_behavior.cli.options import ArtifactFolder, Json
from model_behavior.files import check_output_file
from model_behavior.serving.snapshot import load_snapshot
from model_behavior.serving.static_page import MapLook, write_full_page, write_map_page


def draw_map(
    folder: ArtifactFolder,
    output: Annotated[Path, typer.Option(help="HTML file to write.")],
    method: Annotated[Method, typer.Option(help="Projection to two dimensions.")] = "pca",
    mark: Annotated[list[str] | None, typer.Option(help="Model to draw as a star; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of t-SNE and UMAP.")] = 0,
    full: Annotated[
        bool, typer.Option("--full", help="Write the whole page of `serve` to one file: map, leaderboard, comparisons.")
    ] = False,
    json: Json = False,
) -> None:
    """Draw a map of the models as one offline HTML page; similar models are close together."""
    check_output_file(output)
    snapshot = load_snapshot(folder, {}, frozenset())
    look = MapLook(method, seed, tuple(mark or ()))
    if full:
        progress = Progress()
        write_full_page(output, snapshot, look, lambda done, n: progress.show("comparing models", done, n))
    else:
        write_map_page(output, snapshot, look)
    n_models = len(snapshot.rows)
    print_result({"output": str(output), "models": n_models}, json, f"{output}: map of {n_models} models")

"""`model-behavior demo`: both stages on the built-in arena."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from model_behavior.artifact import Artifact
from model_behavior.cli.console import ConsoleMonitor, print_result, stderr
from model_behavior.cli.options import CacheFolder, Json, NewArtifact, open_cache
from model_behavior.data.arena import Arena, build_arena, write_votes
from model_behavior.data_models.votes import ValidationSplit
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.pipeline import TrainingConfig, train
from model_behavior.serving.snapshot import Snapshot, read_version
from model_behavior.serving.static_page import MapLook, write_map_page

# Names that nobody has given to a training of their own, since the demo replaces them.
VOTES, ENCODER, MAP = "arena_votes.parquet", "arena_encoder", "arena_map.html"
_MAP_TITLE = "The built-in arena (synthetic)"
_MAP_NOTE = "Simulated LLMs; the stars were never voted on."
_NEXT = """
Your own votes (CSV, JSON, JSONL or Parquet with prompt, model_a, response_a, model_b, response_b, winner):
  model-behavior train votes.parquet --output arena
  model-behavior onboard arena new_model.jsonl --model new-model
  model-behavior rank arena"""


@dataclass(frozen=True)
class _Row:
    model: str
    held_out: bool
    responses: int
    quality: float
    rating: float
    low: float
    high: float


def run_demo(
    output: Annotated[Path, typer.Option(help="Folder for the votes, the encoder and the map.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the arena and of the training.")] = 0,
    cache: CacheFolder = None,
    json: Json = False,
) -> None:
    """Train both stages on a synthetic arena, then rate models that were never voted on. Takes about a minute."""
    started = time.monotonic()
    target = NewArtifact(output / ENCODER, overwrite=True)
    arena = build_arena(seed)
    stderr().print(
        f"SYNTHETIC data: {len(arena.votes):,} votes between {len(arena.votes.pairs.models)} simulated LLMs, written "
        f"from templates with a known quality; {len(arena.held_out)} more LLMs are held out of the votes."
    )
    config = replace(TrainingConfig().with_seed(seed), split=ValidationSplit(0.2, seed))
    scored = train(arena.votes, config, Runtime(open_cache(cache), ConsoleMonitor()))
    complete = scored.onboard(arena.held_out_responses)
    output.mkdir(parents=True, exist_ok=True)
    write_votes(arena, output / VOTES)
    target.write(complete)
    look = MapLook(marked=arena.held_out, title=_MAP_TITLE, note=_MAP_NOTE)
    write_map_page(output / MAP, Snapshot(complete, read_version(output / ENCODER), {}, frozenset()), look)
    rows = _compare(complete, arena)
    value = _summarise(rows, complete, time.monotonic() - started)
    print_result(value | {"output": str(output)}, json, _draw(rows, value, output))


def _compare(trained: Artifact, arena: Arena) -> list[_Row]:
    assert trained.scorer is not None
    counts = dict(zip(trained.models.names, trained.models.count.tolist(), strict=True))
    ratings = trained.scorer.rate(trained.models.names)
    quality = np.array([arena.quality[name] for name in ratings.models])
    # Only differences of ratings mean something; they are shown around the same mean as the truth.
    shift = quality.mean() - ratings.rating.mean()
    columns = (ratings.models, quality, *(column + shift for column in (ratings.rating, ratings.low, ratings.high)))
    rows = [
        _Row(name, name in arena.held_out, counts[name], float(true), float(rating), float(low), float(high))
        for name, true, rating, low, high in zip(*columns, strict=True)
    ]
    return sorted(rows, key=lambda row: -row.quality)


def _summarise(rows: list[_Row], trained: Artifact, seconds: float) -> dict[str, Any]:
    from scipy.stats import spearmanr  # slow to load, and needed here alone

    def order_agreement(chosen: list[_Row]) -> float:
        return float(spearmanr([row.quality for row in chosen], [row.rating for row in chosen]).statistic)

    best = max(trained.encoder.history, key=lambda log: log.triplet_accuracy)
    return {
        "synthetic": True,
        "seconds": round(seconds, 1),
        "triplet_accuracy": round(best.triplet_accuracy, 3),
        "identification_at_8": None if best.identification is None else round(best.identification, 3),
        "spearman_held_out": round(order_agreement([row for row in rows if row.held_out]), 3),
        "spearman_all": round(order_agreement(rows), 3),
        "models": [vars(row) for row in rows],
    }


def _draw(rows: list[_Row], value: dict[str, Any], output: Path) -> str:
    place = {row.model: n for n, row in enumerate(sorted(rows, key=lambda row: -row.rating), 1)}
    lines = [
        "",
        "SYNTHETIC arena: true order beside the order found (* = never voted on, rated by what it answers)",
        "",
        f"{'true':>4}  {'found':>5}  {'model':<18}{'responses':>9}  {'quality':>7}  {'rating':>7}  95 % interval",
    ]
    lines += [
        f"{n:>4}  {place[row.model]:>5}  {row.model + (' *' if row.held_out else ''):<18}{row.responses:>9}  "
        f"{row.quality:>7.2f}  {row.rating:>7.2f}  {row.low:.2f} to {row.high:.2f}"
        for n, row in enumerate(rows, 1)
    ]
    n_held_out = sum(row.held_out for row in rows)
    lines += [
        "",
        f"Order of the {n_held_out} held-out models: Spearman {value['spearman_held_out']:.2f}; of all "
        f"{len(rows)}: {value['spearman_all']:.2f}",
        f"Validation triplet accuracy {value['triplet_accuracy']:.3f}; a model recognised from 8 responses: "
        f"{value['identification_at_8']:.3f}",
        f"{value['seconds']:.0f} s. Map: {output / MAP}  Encoder: {output / ENCODER}",
        _NEXT,
    ]
    return "\n".join(lines)

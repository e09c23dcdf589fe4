"""`model-behavior demo`: both stages on the built-in arena."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from model_behavior.artifact import Artifact
from model_behavior.cli.console import ConsoleMonitor, print_result, stderr
from model_behavior.cli.options import CacheFolder, Json, NewArtifact, open_cache
from model_behavior.data.arena import Arena, ask_arena, build_arena, write_votes
from model_behavior.data_models.votes import ValidationSplit
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.pipeline import TrainingConfig, train
from model_behavior.serving.snapshot import Snapshot, read_version
from model_behavior.serving.static_page import MapLook, write_map_page

# Names that nobody has given to a training of their own, since the demo replaces them.
VOTES, ENCODER, MAP = "arena_votes.parquet", "arena_encoder", "arena_map.html"
_ASKED = 8  # prompts of each held-out model
_MAP_TITLE = "The built-in arena (synthetic)"
_MAP_NOTE = "Simulated LLMs; the stars were never voted on."
_NEXT = """
Your own votes (CSV, JSON, JSONL or Parquet with prompt, model_a, response_a, model_b, response_b, winner):
  model-behavior train votes.parquet --output arena
  model-behavior onboard arena new_model.jsonl --model new-model
  model-behavior rank arena
A model behind an OpenAI-compatible API:
  model-behavior ask arena --base-url http://localhost:8000/v1 --model new-model --output answers.jsonl --onboard"""


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
    rows, newcomers = _compare(complete, arena), _interview(scored, arena)
    value = _summarise(rows, newcomers, complete, time.monotonic() - started)
    value["output"] = str(output)
    print_result(value, json, draw_demo(value))


def _compare(trained: Artifact, arena: Arena) -> list[_Row]:
    counts = dict(zip(trained.models.names, trained.models.count.tolist(), strict=True))
    truth = _true_elo(trained, arena)
    rows = [
        _Row(
            each.model,
            each.model in arena.held_out,
            counts[each.model],
            truth[each.model],
            each.rating,
            each.low,
            each.high,
        )
        for each in trained.rank()
    ]
    return sorted(rows, key=lambda row: -row.quality)


def _interview(trained: Artifact, arena: Arena) -> list[_Row]:
    """The held-out models, each asked the few prompts that tell most about it, and rated from its answers."""
    chosen = [each.prompt for each in trained.prompts(_ASKED)]
    rows = []
    for name in arena.held_out:
        asked = trained.onboard(ask_arena(arena, name, chosen))
        (rated,) = asked.rank(models=[name])
        truth = _true_elo(trained, arena)[name]
        rows.append(_Row(name, True, len(chosen), truth, rated.rating, rated.low, rated.high))
    return sorted(rows, key=lambda row: -row.quality)


def _true_elo(trained: Artifact, arena: Arena) -> dict[str, float]:
    """True quality on the scale of the ratings: Elo, around the mean of the voted models."""
    scale, known = trained.trained_scorer.scale("elo"), trained.trained_scorer.voted_models
    mean = sum(arena.quality[name] for name in known) / len(known)
    return {name: scale.origin + scale.unit * (quality - mean) for name, quality in arena.quality.items()}


def _summarise(rows: list[_Row], newcomers: list[_Row], trained: Artifact, seconds: float) -> dict[str, Any]:
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
        "spearman_asked": round(order_agreement(newcomers), 3),
        "models": [vars(row) for row in rows],
        "asked": [vars(row) for row in newcomers],
    }


def draw_demo(value: dict[str, Any]) -> str:
    """What people see of what programs get, which has the models in their true order."""
    rows, output = [_Row(**row) for row in value["models"]], Path(value["output"])
    place = {row.model: n for n, row in enumerate(sorted(rows, key=lambda row: -row.rating), 1)}
    lines = [
        "",
        "SYNTHETIC arena: true order beside the order found, Elo (* = never voted on, rated by what it answers)",
        "",
        f"{'true':>4}  {'found':>5}  {'model':<18}{'responses':>9}  {'quality':>7}  {'rating':>7}  95 % interval",
    ]
    lines += [
        f"{n:>4}  {place[row.model]:>5}  {row.model + (' *' if row.held_out else ''):<18}{row.responses:>9}  "
        f"{row.quality:>7.0f}  {row.rating:>7.0f}  {row.low:.0f} to {row.high:.0f}"
        for n, row in enumerate(rows, 1)
    ]
    n_held_out = sum(row.held_out for row in rows)
    lines += [
        "",
        f"Order of the {n_held_out} held-out models: Spearman {value['spearman_held_out']:.2f}; of all "
        f"{len(rows)}: {value['spearman_all']:.2f}",
        f"Validation triplet accuracy {value['triplet_accuracy']:.3f}; a model recognised from 8 responses: "
        f"{value['identification_at_8']:.3f}",
        "",
        f"Where would a new model land? Each held-out model, asked only the {_ASKED} prompts that `prompts` chose:",
        "",
        f"{'model':<18}{'quality':>7}  {'rating':>7}  95 % interval",
        *(
            f"{row.model:<18}{row.quality:>7.0f}  {row.rating:>7.0f}  {row.low:.0f} to {row.high:.0f}"
            for row in (_Row(**row) for row in value["asked"])
        ),
        "",
        f"{value['seconds']:.0f} s. Map: {output / MAP}  Encoder: {output / ENCODER}",
        _NEXT,
    ]
    return "\n".join(lines)

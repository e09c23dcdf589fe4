"""`model-behavior evaluate`, with its tables for a terminal, and `cache`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from model_behavior.cli.console import counted, print_result
from model_behavior.cli.options import (
    ArtifactFolder,
    BackendChoice,
    BatchSize,
    CacheFolder,
    Columns,
    ConfigFile,
    Json,
    Outcomes,
    Questions,
    Seed,
    VoteSources,
    open_artifact,
    open_cache,
    read_votes,
    reading_options,
)
from model_behavior.evaluation.evaluate import BaselineFigures, Evaluation, EvaluationConfig
from model_behavior.evaluation.evaluated_encoder import EncoderFigures
from model_behavior.evaluation.evaluated_scorer import CellFigures
from model_behavior.evaluation.figures import Figure
from model_behavior.evaluation.recognition import SubspaceFigures
from model_behavior.evaluation.stage2 import LengthControl
from model_behavior.preprocessing.cache import CacheInfo

_CONFIG = EvaluationConfig()


def evaluate_artifact(
    folder: ArtifactFolder,
    votes: VoteSources,
    columns: Columns = None,
    outcome: Outcomes = None,
    questions: Questions = None,
    seed: Seed = _CONFIG.seed,
    semantic: Annotated[
        bool, typer.Option(help="Include the MiniLM baseline, which needs the extra semantic.")
    ] = _CONFIG.semantic,
    batch_size: BatchSize = _CONFIG.batch_size,
    cache: CacheFolder = None,
    backend: BackendChoice = "auto",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Evaluate both stages on votes, against baselines, on prompts that they were not trained on."""
    reading = reading_options(columns, outcome, questions)
    loaded = open_artifact(folder, cache, backend)
    data = read_votes(votes, reading)
    evaluation = loaded.evaluate(data, EvaluationConfig(seed, batch_size, semantic))
    print_result(evaluation.to_json(), json, describe_evaluation(evaluation))


def cache_info(cache: CacheFolder = None, json: Json = False) -> None:
    """Show the cache folder and its contents."""
    _print_cache(open_cache(cache).info(), json, "in the cache")


def cache_clear(cache: CacheFolder = None, json: Json = False) -> None:
    """Remove all entries of the cache; later runs compute them again."""
    _print_cache(open_cache(cache).clear(), json, "removed")


def _print_cache(info: CacheInfo, as_json: bool, what: str) -> None:
    value = {"path": str(info.path), "entries": dict(info.entries), "bytes": dict(info.bytes)}
    total = f"{counted(sum(info.entries.values()), 'entry')}, {sum(info.bytes.values()) / 1e6:,.1f} MB {what}"
    lines = [f"{info.path}: {total}"]
    lines += [
        f"  {kind}: {counted(n, 'entry')}, {info.bytes[kind] / 1e6:,.1f} MB" for kind, n in sorted(info.entries.items())
    ]
    print_result(value, as_json, "\n".join(lines))


Rows = list[tuple[str, ...]]


def describe_evaluation(evaluation: Evaluation) -> str:
    """All tables; a cell is value [95 % interval] (n)."""
    votes, stage1 = evaluation.votes, evaluation.stage1
    parts = [
        f"{votes.new_prompt_votes:,} of {votes.used:,} votes are on {votes.new_prompts:,} prompts that it was not "
        f"trained on; stage 1 is measured on these. Cells: value [95 % interval, clustered by prompt] (n)."
    ]
    if votes.unknown_models:
        parts.append(f"No embedding of {len(votes.unknown_models)}: {', '.join(votes.unknown_models)}")
    parts += [_write("Triplets and identification", _compare(evaluation)), _write("Embedding", _describe(stage1))]
    parts.append(_write("What the parts of the embedding know", _describe_parts(stage1.parts)))
    parts.append(_write("Length controlled for", _describe_lengths(evaluation)))
    for label, cell in (evaluation.stage2 or {}).items():
        parts.append(_write(f"Votes: {label}", _describe_cell(cell)))
    return "\n\n".join(parts)


def _compare(evaluation: Evaluation) -> Rows:
    stage1 = evaluation.stage1
    sizes = sorted(stage1.identification)
    rows: Rows = [("", "triplets", "identity", "performance", "balanced", *(f"model @{k}" for k in sizes))]
    embeddings: dict[str, EncoderFigures | BaselineFigures] = {"encoder": stage1, **evaluation.baselines}
    for name, each in embeddings.items():
        identification = each.identification
        kinds = [_cell(each.triplet[kind]) for kind in ("all", "identity", "performance")] + [_cell(each.balanced)]
        rows.append((name, *kinds, *(_cell(identification.get(k)) for k in sizes)))
    return [*rows, ("chance", *["0.500"] * 4, *[f"{stage1.identification_chance:.3f}"] * len(sizes))]


def _describe(stage1: EncoderFigures) -> Rows:
    rows: Rows = [(name.replace("_", " "), _cell(figure)) for name, figure in stage1.collapse.items()]
    rows += [(f"family @{k}, chance {stage1.family_chance:.3f}", _cell(each)) for k, each in stage1.family.items()]
    if stage1.readout is not None:
        rows.append(("votes by quality read-out (sees responses)", _cell(stage1.readout.accuracy)))
    return rows


def _describe_parts(parts: Mapping[str, SubspaceFigures]) -> Rows:
    sizes = sorted({k for part in parts.values() for k in part.identification})
    rows: Rows = [("", "rating R2", "rating Spearman", *(f"model @{k}" for k in sizes))]
    for name, part in parts.items():
        recognised = (_cell(part.identification.get(k)) for k in sizes)
        rows.append((name, _cell(part.rating_r2), _cell(part.rating_correlation), *recognised))
    return rows


def _describe_lengths(evaluation: Evaluation) -> Rows:
    rows: Rows = [("", "within 10 %", "longer won", "shorter won", "balanced")]
    controls: dict[str, LengthControl] = {"triplets": evaluation.stage1.triplet_length_control}
    if evaluation.stage1.readout is not None:
        controls["quality read-out"] = evaluation.stage1.readout.length_control
    for label, cell in (evaluation.stage2 or {}).items():
        controls |= {f"{name}: {label}": each.length_control for name, each in cell.methods.items()}
    for name, each in controls.items():
        rows.append((name, *map(_cell, (each.matched, each.longer_won, each.shorter_won, each.balanced))))
    return rows


def _describe_cell(cell: CellFigures) -> Rows:
    rows: Rows = [("", "accuracy", "log loss", "ECE")]
    for name, each in cell.methods.items():
        figures = each.figures
        rows.append((name, *map(_cell, (figures.accuracy, figures.log_loss, figures.calibration_error))))
    return [*rows, ("longer response (sees responses)", _cell(cell.longer_response), "-", "-")]


def _cell(figure: Figure | None) -> str:
    if figure is None or not math.isfinite(figure.value):
        return "-"
    interval = f" [{figure.low:.3f}, {figure.high:.3f}]" if math.isfinite(figure.low) else ""
    return f"{figure.value:.3f}{interval} ({figure.n:,})"


def _write(title: str, rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join([title, *(f"  {line}" for line in lines)])

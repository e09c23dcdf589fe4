"""`model-behavior route` and `calibrate-threshold`, and what they print for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from model_behavior.artifact import Artifact
from model_behavior.cli.console import counted, print_load_report, print_result, stderr
from model_behavior.cli.options import (
    ArtifactFolder,
    BackendChoice,
    CacheFolder,
    Columns,
    Json,
    Outcomes,
    Questions,
    open_artifact,
    read_votes,
    reading_options,
)
from model_behavior.data.filters import select_votes
from model_behavior.data.questions import load_prompt_rows, load_prompts
from model_behavior.data.reading import ReadingOptions
from model_behavior.data_models.votes import TrainingData
from model_behavior.errors import UsageError
from model_behavior.evaluation.figures import Figure
from model_behavior.evaluation.measured_votes import separate_new_prompts
from model_behavior.evaluation.routing import RoutingFigures, measure_routing, measure_win_rates, votes_between
from model_behavior.evaluation.routing_page import TradeOff, check_curve_file, describe_shares, write_trade_off
from model_behavior.files import check_output_file, check_table_file, written_aside
from model_behavior.preprocessing.scoring_votes import to_scoring_votes
from model_behavior.routing.costs import load_costs
from model_behavior.routing.frontier import GapCurve, average_gap_recovered, recover_gap, thresholds_of_levels
from model_behavior.routing.router import Choice, Router
from model_behavior.routing.traffic import OperatingPoint, RoutingRule, Traffic, apply_rule

Costs = Annotated[
    Path, typer.Option(help="File (JSON, TOML or table) with each model's cost per request, or prices per 1M tokens.")
]
Models = Annotated[
    list[str] | None, typer.Option(help="Candidate model; repeatable. [default: all models with a cost]")
]
Reference = Annotated[
    str | None, typer.Option(help="Model that win rates are measured against. [default: the best-rated candidate]")
]
Budget = Annotated[float | None, typer.Option(help="Maximum mean cost per request over the prompts.")]


def route(
    folder: ArtifactFolder,
    costs: Costs,
    prompt: Annotated[str | None, typer.Option(help="One prompt.")] = None,
    prompts: Annotated[str | None, typer.Option(help="File of prompts: text, table, votes or responses.")] = None,
    budget: Budget = None,
    floor: Annotated[
        float | None,
        typer.Option(help="Minimum win rate against the best model, 0 to 0.5; the cheapest such model is chosen."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Minimum gain in win rate per unit of cost. [default: 0, the best model]")
    ] = None,
    models: Models = None,
    reference: Reference = None,
    output: Annotated[Path | None, typer.Option(help="Parquet file to write, one row per prompt.")] = None,
    columns: Columns = None,
    questions: Questions = None,
    cache: CacheFolder = None,
    backend: BackendChoice = "auto",
    json: Json = False,
) -> None:
    """Choose a model for each prompt by expected win rate and cost."""
    _allow_one({"--prompt": prompt, "--prompts": prompts}, at_least=1)
    _allow_one({"--budget": budget, "--floor": floor, "--threshold": threshold})
    if output is not None:
        check_table_file(output)
    router = _make_router(open_artifact(folder, cache, backend), costs, models, reference)
    reading = reading_options(columns, None, questions)
    rows: list[str | None] = [prompt] if prompt is not None else _read_prompt_rows(str(prompts), reading)
    asked = [text for text in rows if text is not None]
    router = apply_rule(router, asked, RoutingRule(budget, floor, threshold))
    choices = router.route(asked)
    if output is not None:
        _write_choices(output, rows, choices)
    value = {
        "reference": router.reference,
        "threshold": None if floor is not None else router.threshold,
        "floor": floor,
        "mean_cost": sum(choice.cost for choice in choices) / len(choices),
        "win_rate": sum(choice.win_rate for choice in choices) / len(choices),
        "output": None if output is None else str(output),
        "choices": [{"prompt": text, **asdict(choice)} for text, choice in zip(asked, choices, strict=True)],
    }
    print_result(value, json, describe_choices(router, asked, choices))


def calibrate_threshold(
    folder: ArtifactFolder,
    prompts: Annotated[str, typer.Argument(help="Your own prompts: text, table, votes or responses.")],
    costs: Costs,
    budget: Budget = None,
    strong_share: Annotated[
        float | None, typer.Option(help="Share of calls to the more expensive of two candidates, 0 to 1.")
    ] = None,
    models: Models = None,
    reference: Reference = None,
    curve: Annotated[
        Path | None, typer.Option(help="File for the curve of cost against win rate: .html, .json or .csv.")
    ] = None,
    votes: Annotated[
        list[str] | None,
        typer.Option(
            help="Votes to evaluate the router on; those on prompts that were trained on are left out; repeatable."
        ),
    ] = None,
    columns: Columns = None,
    outcome: Outcomes = None,
    questions: Questions = None,
    cache: CacheFolder = None,
    backend: BackendChoice = "auto",
    json: Json = False,
) -> None:
    """Find the threshold that meets a budget on your own prompts, and show its expected cost and win rate."""
    _allow_one({"--budget": budget, "--strong-share": strong_share}, at_least=1)
    if curve is not None:
        check_curve_file(curve)
        check_output_file(curve)
    reading = reading_options(columns, outcome, questions)
    loaded = open_artifact(folder, cache, backend)
    router = _make_router(loaded, costs, models, reference)
    traffic = Traffic.of_prompts(router, _read_prompts(prompts, reading))
    if budget is not None:
        threshold = traffic.threshold_for_budget(budget)
    else:
        threshold = traffic.threshold_for_strong_share(float(strong_share or 0))
    chosen, points = traffic.describe(threshold), tuple(traffic.curve())
    thresholds = [threshold, *(point.threshold for point in points)]
    data = read_votes(votes, reading) if votes else None
    figures, measured = (None, None) if data is None else _measure(loaded, router, data, thresholds)
    trade_off = TradeOff(points, chosen, router.reference, None if measured is None else tuple(measured[1:]))
    if curve is not None:
        write_trade_off(curve, trade_off)
    gap = recover_gap(traffic.sweep, traffic.ends)
    value: dict[str, Any] = {
        **asdict(chosen),
        "reference": router.reference,
        "prompts": len(traffic.prompts),
        "win_rate_cut": traffic.win_rate_cut(threshold),
        "expected_apgr": average_gap_recovered(gap),
        "expected_cpt": {f"{level:.0%}": share for level, share in thresholds_of_levels(gap).items()},
        "measured_win_rate": None if measured is None else measured[0],
        "measured": None if figures is None else asdict(figures),
        "curve": trade_off.to_rows(),
    }
    print_result(value, json, describe_calibration(traffic, chosen, gap, figures))


def _allow_one(options: dict[str, Any], at_least: int = 0) -> None:
    given = [name for name, value in options.items() if value is not None]
    if not at_least <= len(given) <= 1:
        found = " and ".join(given) or "none of them"
        raise UsageError(f"{found} given. Allowed: one of {', '.join(options)}{'' if at_least else ', or none'}")


def _make_router(loaded: Artifact, costs: Path, models: list[str] | None, reference: str | None) -> Router:
    table = load_costs(costs)
    router = loaded.router(table, models, reference)
    unpriced = table.unpriced(loaded.models.names)
    if unpriced and not models:
        stderr().print(f"no cost, so nothing is routed to: {', '.join(unpriced)}", markup=False)
    return router


def _read_prompts(source: str, reading: ReadingOptions) -> list[str]:
    prompts, report = load_prompts(source, reading)
    print_load_report(report)
    return prompts


def _read_prompt_rows(source: str, reading: ReadingOptions) -> list[str | None]:
    rows, report = load_prompt_rows(source, reading)
    print_load_report(report)
    return rows


def _measure(
    loaded: Artifact, router: Router, data: TrainingData, thresholds: list[float]
) -> tuple[RoutingFigures, list[float]]:
    """Measures the same candidates by the scorer that has not seen the votes, as `evaluate` does."""
    new, seen = separate_new_prompts(loaded, data)
    if len(seen):
        stderr().print(f"{len(seen):,} of {len(data):,} votes are on prompts that were trained on, and are left out")
    measured = replace(router, scorer=loaded.measured_scorer or router.scorer)
    costs = dict(zip(router.candidates, router.costs, strict=True))
    votes = votes_between(to_scoring_votes(select_votes(data, new)), costs)
    return measure_routing(measured.scorer, votes, costs), measure_win_rates(measured, votes, thresholds)


def _write_choices(path: Path, rows: list[str | None], choices: list[Choice]) -> None:
    """One row per row of the prompts' file; a row without a prompt has no choice."""
    chosen = iter(choices)
    table = pa.Table.from_pylist(
        [{"prompt": prompt, **(asdict(next(chosen)) if prompt is not None else {})} for prompt in rows],
        pa.schema(
            [
                ("prompt", pa.large_string()),
                ("model", pa.string()),
                ("win_rate", pa.float64()),
                ("cost", pa.float64()),
                (
                    "alternatives",
                    pa.list_(pa.struct([("model", pa.string()), ("win_rate", pa.float64()), ("cost", pa.float64())])),
                ),
            ]
        ),
    )
    with written_aside(path) as aside:
        pq.write_table(table, aside)


_SHOWN_ALTERNATIVES = 3
_PROMPT_WIDTH = 60


def describe_choices(router: Router, prompts: Sequence[str], choices: Sequence[Choice]) -> str:
    """One prompt with its alternatives; of several prompts one line each, and what they cost together."""
    if len(choices) == 1:
        (choice,) = choices
        lines = [f"{choice.model}: {_quality(choice.win_rate, router)}, cost {choice.cost:g}"]
        others = choice.alternatives[:_SHOWN_ALTERNATIVES]
        lines += [f"  instead of {each.model}: {each.win_rate:.3f}, cost {each.cost:g}" for each in others]
        left_out = len(choice.alternatives) - len(others)
        return "\n".join([*lines, f"  and {counted(left_out, 'other candidate')}"] if left_out else lines)
    lines = [f"{choice.model}\t{_shorten(prompt)}" for prompt, choice in zip(prompts, choices, strict=True)]
    shares = {name: count / len(choices) for name, count in Counter(each.model for each in choices).items()}
    cost = sum(choice.cost for choice in choices) / len(choices)
    win_rate = sum(choice.win_rate for choice in choices) / len(choices)
    summary = f"{len(choices):,} prompts: mean cost {cost:.6g}, mean {_quality(win_rate, router)}"
    return "\n".join([*lines, "", summary, f"calls: {describe_shares(shares)}"])


def describe_calibration(
    traffic: Traffic, chosen: OperatingPoint, gap: GapCurve, figures: RoutingFigures | None
) -> str:
    """Describes the threshold with its expected cost and win rate."""
    router, cut = traffic.router, traffic.win_rate_cut(chosen.threshold)
    best, cheapest = traffic.describe(0.0), traffic.describe(math.inf)
    lines = [
        f"threshold {chosen.threshold:.6g}: a dearer model is called where it adds this much win rate per unit of cost",
        *(
            []
            if cut is None
            else [f"  that is: the dearer one where its win rate against the other is above {cut:.3f}"]
        ),
        f"on {counted(len(traffic.prompts), 'prompt')}: mean cost {chosen.mean_cost:.6g}, "
        f"{_quality(chosen.win_rate, router)}",
        f"  calls: {describe_shares(chosen.shares)}",
        f"  best mix at this cost without looking at the prompt: {chosen.blind_win_rate:.3f}",
        f"  best model on each prompt (threshold 0): {best.win_rate:.3f}, mean cost {best.mean_cost:.6g}",
        f"  cheapest model: {cheapest.win_rate:.3f}, mean cost {cheapest.mean_cost:.6g}",
    ]
    reached = ", ".join(f"CPT({level:.0%}) {share:.3f}" for level, share in thresholds_of_levels(gap).items())
    if math.isfinite(apgr := average_gap_recovered(gap)):
        lines.append(f"  expected, if the predictions hold: APGR {apgr:.3f} (random 0.5), {reached}")
    if figures is not None:
        cpt = ", ".join(f"CPT({level:.0%}) {_interval(figure)}" for level, figure in figures.cpt.items())
        lines += [
            f"measured on {counted(figures.apgr.n, 'vote')}, the dearer side as the strong one:",
            f"  win rate of the dearer side {_interval(figures.strong_win_rate)}",
            f"  APGR {_interval(figures.apgr)} (random 0.5), {cpt}",
        ]
    return "\n".join(lines)


def _quality(win_rate: float, router: Router) -> str:
    return f"expected win rate {win_rate:.3f} against {router.reference}"


def _interval(figure: Figure) -> str:
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _shorten(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= _PROMPT_WIDTH else f"{line[: _PROMPT_WIDTH - 1]}…"

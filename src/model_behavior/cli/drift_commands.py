"""`model-behavior drift`: answers of a model against those it was enrolled with, or votes against the ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from model_behavior.artifact import Artifact
from model_behavior.catalog.drift import DriftConfig, DriftReport
from model_behavior.catalog.drift_history import HISTORY, PastCheck, append_checks, check_of, now
from model_behavior.cli.catalog_commands import list_changes, list_drivers
from model_behavior.cli.console import counted, print_load_report, print_result, stderr
from model_behavior.cli.options import (
    ArtifactFolder,
    BackendChoice,
    CacheFolder,
    Columns,
    ConfigFile,
    Json,
    Outcomes,
    Questions,
    Seed,
    open_artifact,
    reading_options,
)
from model_behavior.data.loading import load_responses
from model_behavior.data.vote_log import LOG, LoggedThumb, VoteLog, ledger_of_log
from model_behavior.errors import UsageError
from model_behavior.models.scoring.vote_watch import WatchedModel, WatchedThumbs, watch_thumbs, watch_votes
from model_behavior.names import find_model

_DRIFT = DriftConfig()


def drift(
    folder: ArtifactFolder,
    responses: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RESPONSES]",
            help="Responses or votes: files, folders of shards, or hf://owner/name. Without them, the votes and thumbs "
            "that serve has received are tested.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Name in DIR of the model that wrote the responses; needed with them.")
    ] = None,
    permutations: Annotated[
        int, typer.Option(min=19, help="Number of permutations; the smallest p-value is 1 / (permutations + 1).")
    ] = _DRIFT.permutations,
    alpha: Annotated[
        float, typer.Option(min=0, max=1, help="Significance level: accepted rate of false alarms.")
    ] = _DRIFT.alpha,
    fail_on_change: Annotated[
        bool, typer.Option("--fail-on-change", help="Exit with 1 where a change is found; its reasons go to stderr.")
    ] = False,
    columns: Columns = None,
    outcome: Outcomes = None,
    questions: Questions = None,
    seed: Seed = _DRIFT.seed,
    cache: CacheFolder = None,
    backend: BackendChoice = "auto",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Test whether the answers of a model in DIR have changed since it was enrolled, or the votes on all models.

    Each check is appended to drift.jsonl in DIR.
    """
    reading = reading_options(columns, outcome, questions)
    loaded = open_artifact(folder, cache, backend)
    if not responses:
        votes, thumbs = watch_log(folder, loaded, alpha)
        rows = [{"kind": "votes", **asdict(each)} for each in votes]
        rows += [{"kind": "thumbs", **asdict(each)} for each in thumbs]
        print_result(rows, json, describe_watch(votes, thumbs))
        checks = [_check_of_votes(each, alpha) for each in votes] + [_check_of_thumbs(each, alpha) for each in thumbs]
        _record_checks(folder, checks, fail_on_change)
        return
    if model is None:
        raise UsageError("--model is missing. Fix: name the model that wrote the responses")
    find_model(loaded.models.names, model)  # reports an unknown name before the responses are read
    pairs, report = load_responses(*responses, model=model, reading=reading)
    print_load_report(report)
    found = loaded.drift(pairs, model, DriftConfig(permutations=permutations, alpha=alpha, seed=seed))
    print_result(asdict(found), json, describe_drift(found))
    _record_checks(folder, [check_of(found, alpha)], fail_on_change)


def _record_checks(folder: Path, checks: Sequence[PastCheck], fail_on_change: bool) -> None:
    """Appends checks to the history, and ends the command with 1 where one found a change and that is asked for."""
    try:
        append_checks(folder / HISTORY, checks)
    except OSError as error:
        text = f"warning: the check is not in the history: {folder / HISTORY} cannot be written: {error.strerror}"
        stderr().print(text, markup=False, style="yellow")
    changed = [check for check in checks if check.changed]
    if fail_on_change and changed:
        stderr().print(" | ".join(check.summary() for check in changed), markup=False, style="red")
        raise typer.Exit(1)


def _check_of_votes(watched: WatchedModel, alpha: float) -> PastCheck:
    effect = watched.observed - watched.predicted
    return PastCheck(
        now(), watched.model, "votes", watched.votes, watched.p_value, effect, alpha, watched.changed, reasons=()
    )


def _check_of_thumbs(watched: WatchedThumbs, alpha: float) -> PastCheck:
    effect = watched.observed - watched.before
    return PastCheck(
        now(), watched.model, "thumbs", watched.latest, watched.p_value, effect, alpha, watched.changed, reasons=()
    )


def watch_log(
    folder: Path, loaded: Artifact, alpha: float
) -> tuple[tuple[WatchedModel, ...], tuple[WatchedThumbs, ...]]:
    """The votes that `update` has not counted, beside what the ratings predict, and thumbs beside those before."""
    log = VoteLog(folder / LOG)
    entries = log.entries()
    if log.damaged:
        stderr().print(f"{log.path}: {log.damaged:,} lines cannot be read and are left out", markup=False)
    new = ledger_of_log(entries).between(loaded.trained_scorer.models)
    if loaded.votes is not None:
        new = new.without(loaded.votes)
    thumbs = [each for each in entries if isinstance(each, LoggedThumb) and each.model in loaded.models.names]
    return watch_votes(loaded.trained_scorer, new.to_scoring_votes(), alpha), watch_thumbs(thumbs, alpha)


def describe_watch(watched: Sequence[WatchedModel], thumbs: Sequence[WatchedThumbs]) -> str:
    """One line for each model with votes, then one for each with thumbs."""
    lines = [] if watched else ["no vote has come that is not counted yet"]
    lines += [
        f"{each.model}: {'changed' if each.changed else 'no change found'} (p = {each.p_value:.3g}); won "
        f"{each.observed:.3f} of {counted(each.votes, 'vote')} on {counted(each.prompts, 'prompt')}, "
        f"{each.predicted:.3f} predicted"
        for each in watched
    ]
    if any(each.changed for each in watched):
        lines.append("To count these votes in the ratings: model-behavior update DIR")
    lines += [
        f"{each.model}: {'changed' if each.changed else 'no change found'} (p = {each.p_value:.3g}); thumbs up for "
        f"{each.observed:.3f} of the latest {counted(each.latest, 'prompt')}, "
        f"for {each.before:.3f} of {each.earlier:,} before"
        for each in thumbs
    ]
    return "\n".join(lines)


def describe_drift(found: DriftReport) -> str:
    """Describes the result, the data behind it, and the responses needed to find other effects."""
    verdict = "changed" if found.changed else "no change found"
    unit = "prompts" if found.by_prompt else "new responses"
    how = (
        f"by prompt, on {counted(found.shared_prompts, 'shared prompt')}"
        if found.by_prompt
        else "without regard to prompts"
    )
    lines = [
        f"{found.model}: {verdict} (p = {found.p_value:.3g})",
        f"  effect: {found.effect:.2f} standard deviations of a response",
        f"  compared {how}: {found.n_new} new with {found.n_enrolled} enrolled responses",
    ]
    if found.p_mixture is not None:
        towards = f", towards {found.resembles}" if found.resembles is not None else ""
        lines.append(f"  all responses: p = {found.p_mean:.3g}; some of them: p = {found.p_mixture:.3g}{towards}")
    if found.effect > 0:
        lines.append(f"  {unit} needed to find this effect in 80 % of cases: {_number(found.needed_for_effect)}")
    sizes = ", ".join(f"{size:g}: {_number(needed)}" for size, needed in found.needed.items())
    lines.append(f"  {unit} needed by size of effect: {sizes}")
    if found.drivers:
        lines += ["  new responses, against the enrolled ones:", *list_drivers(found.drivers, "")]
    if found.caution:
        lines.append(f"  caution: {found.caution}")
    return "\n".join([*lines, *list_changes(found.canonicalised)])


def _number(needed: int | None) -> str:
    return "more than the enrolled sample allows" if needed is None else f"{needed:,}"

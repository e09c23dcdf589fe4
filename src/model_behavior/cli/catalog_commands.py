"""`model-behavior onboard` (also `embed-models`), `neighbours`, `identify`, `remove` and `encode`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any

import typer

from model_behavior.artifact import Artifact
from model_behavior.artifact.certainty import ModelCertainty, PlannedSize, RatingCertainty, check_half_width
from model_behavior.artifact.rating_drivers import RatingDrivers, describe_rating_drivers, find_rating_drivers
from model_behavior.catalog.embeddings import ModelEmbeddings, count_changes, usable_models, usable_pairs
from model_behavior.catalog.identification import Identification
from model_behavior.catalog.neighbours import Neighbourhood
from model_behavior.catalog.revisions import revisions_of
from model_behavior.catalog.samples import SharedPrompt
from model_behavior.catalog.stored_rows import Exemplar
from model_behavior.catalog.style_drivers import StyleDriver
from model_behavior.cli.console import Progress, counted, print_changes, print_load_report, print_result, stderr
from model_behavior.cli.options import (
    Address,
    ArtifactFolder,
    BackendChoice,
    BatchSize,
    CacheFolder,
    Change,
    Columns,
    ConfigFile,
    EngineName,
    Json,
    OtherFolder,
    Outcomes,
    Questions,
    ResponseSources,
    ScaleOption,
    Sharding,
    ShardRows,
    TableFile,
    describe_job,
    digits_of,
    open_artifact,
    reading_options,
)
from model_behavior.data.canonical_text import Changes, describe_changes
from model_behavior.data.loading import UNNAMED, as_anonymous_responses, load_responses
from model_behavior.data_models.scoring_types import ScaleName
from model_behavior.data_models.votes import PairTable
from model_behavior.files import check_table_file
from model_behavior.sharding.runs import DEFAULT_SHARD_ROWS

_NOTE = "Figures of counts and sizes are geometric means: what is typical of a response, not the average."


def onboard(
    folder: ArtifactFolder,
    responses: ResponseSources,
    model: Annotated[str | None, typer.Option(help="Name of the model, if the file does not have it.")] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add to the responses of a model already in DIR instead of replacing them.")
    ] = False,
    output: OtherFolder = None,
    columns: Columns = None,
    outcome: Outcomes = None,
    questions: Questions = None,
    half_width: Annotated[
        float | None,
        typer.Option(
            help="Target half-width of the rating's 95 % interval. [default: 10 % above the smallest possible]"
        ),
    ] = None,
    scale: ScaleOption = "elo",
    engine: EngineName = "local",
    address: Address = None,
    shard_rows: ShardRows = DEFAULT_SHARD_ROWS,
    cache: CacheFolder = None,
    backend: BackendChoice = "auto",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Add every model in RESPONSES to DIR. Responses replace those of a known model; with --add they extend them."""
    check_half_width(half_width)
    reading = reading_options(columns, outcome, questions)
    sharding = Sharding(engine, address, shard_rows)
    change = Change(folder, output, lambda: open_artifact(folder, cache, backend))
    pairs, report = load_responses(*responses, model=model, reading=reading)
    print_load_report(report)
    print_changes(count_changes(pairs))

    def enrol(loaded: Artifact) -> Artifact:
        if not sharding.is_needed(len(pairs)):
            return loaded.onboard(pairs, add=add)
        progress = partial(Progress().show, "model embeddings", total=len(pairs))
        # Shards are named after what was read, not after what another process may have put there since.
        job = replace(describe_job("enrol", folder, cache, backend), artifact_digest=change.version)
        run = sharding.plan(job, loaded)
        with run.over_pairs(pairs, change.target, progress) as parts:
            return loaded.onboard(pairs, add=add, parts=parts)

    complete = change.apply(enrol)
    names = usable_models(pairs)
    models = complete.models.select([row for row, name in enumerate(complete.models.names) if name in names])
    _say_what_became_of_known_models(change.before.models, models, pairs, add)
    _say_what_was_left_out(models, pairs)
    certainty = complete.certainty(models.names, half_width, scale=scale)
    rows = _describe_rows(complete, certainty, models.spread.tolist())
    found = find_rating_drivers(complete, models.names, scale=scale)
    rows = [{**row, "rating_drivers": each and asdict(each)} for row, each in zip(rows, found, strict=True)]
    text = describe_certainty(certainty, models.spread.tolist(), scale, found)
    print_result({"output": str(change.target), "embedded": rows}, json, text)


def _say_what_became_of_known_models(
    before: ModelEmbeddings, after: ModelEmbeddings, pairs: PairTable, add: bool
) -> None:
    """Reports if responses were replaced, or added to those already there."""
    known = dict(zip(before.names, before.count.tolist(), strict=True))
    given = Counter(pairs.models[index] for index in pairs.model_index[usable_pairs(pairs)].tolist())
    for name, count in zip(after.names, after.count.tolist(), strict=True):
        if name in known and add:
            new = count - known[name]
            repeated = f", {given[name] - new:,} known already" if given[name] > new else ""
            join = "joins" if new == 1 else "join"
            text = f"{name}: {counted(new, 'response')} {join} the {known[name]:,} there{repeated}"
            stderr().print(text, markup=False)
        elif name in known:
            replace, them = ("replaces", "it") if count == 1 else ("replace", "them")
            text = f"{name}: {counted(count, 'response')} {replace} the {known[name]:,} there; --add would join {them}"
            stderr().print(text, markup=False)


def _say_what_was_left_out(models: ModelEmbeddings, pairs: PairTable) -> None:
    """Reports pairs without a prompt or a response, and models that have no others."""
    n_unusable = len(pairs) - int(usable_pairs(pairs).sum())
    if n_unusable:
        left_out = sorted(set(pairs.models) - set(models.names))
        tail = f"; no embedding for {', '.join(left_out)}" if left_out else ""
        stderr().print(f"{counted(n_unusable, 'pair')} with an empty prompt or response not used{tail}", markup=False)


def _describe_rows(
    complete: Artifact, certainty: Sequence[ModelCertainty], spread: Sequence[float]
) -> list[dict[str, Any]]:
    place = {name: row for row, name in enumerate(complete.models.names)}
    current = [revisions_of(complete.revisions, complete.catalog, place[sure.model])[-1] for sure in certainty]
    return [
        {**asdict(sure), "spread": round(own, 4), "revision": revision.number}
        for sure, own, revision in zip(certainty, spread, current, strict=True)
    ]


def describe_certainty(
    certainty: Sequence[ModelCertainty],
    spread: Sequence[float],
    scale: ScaleName = "elo",
    drivers: Sequence[RatingDrivers | None] | None = None,
) -> str:
    """Describes each enrolled model, its certainty, what its rating comes from, and the gain from more responses."""
    digits, unit = digits_of(scale), " Elo" if scale == "elo" else ""
    lines = []
    found = drivers if drivers is not None else [None] * len(certainty)
    for each, own, driven in zip(certainty, spread, found, strict=True):
        lines.append(f"{each.model}: {counted(each.responses, 'response')}, spread {own:.3f}")
        if each.radius is not None:
            lines.append(f"  embedding: within {each.radius[0.95]:.3f} of its place, with a probability of 95 %")
        if each.rating is not None:
            rating = each.rating
            compared = f"{counted(rating.compared, 'response')} to prompts that voted models answered, too"
            value = f"{rating.rating:.{digits}f} ± {rating.half_width:.{digits}f}{unit}"
            lines.append(f"  rating: {value} (95 %), from {compared}")
            if rating.beyond:
                lines.append(f"  beyond the known field: {_outside(rating.beyond)}")
            lines += _rating_drivers(driven, digits, unit, "  ")
            lines.append(f"  {_needed(rating, digits)}")
        for k, size in each.planned.items():
            bought = [f"{name} {value}" for name, value in _bought(size, digits) if value is not None]
            if bought:
                lines.append(f"  {k:>4} response{'s' * (k != 1)}: {', '.join(bought)}")
    return "\n".join(lines)


def _outside(beyond: int) -> str:
    order = "better" if beyond > 0 else "worse"
    return f"its answers look {order} than those of every known model, so that its rating is a guess"


def _rating_drivers(found: RatingDrivers | None, digits: int, unit: str, indent: str) -> list[str]:
    if found is None:
        return []
    weight = "" if found.weight is None else f" ({found.weight:.0%} of its rating)"
    head = f"{indent}against the known models, by what votes say about such answers{weight}:"
    return [head, *(f"{indent}  {line}" for line in describe_rating_drivers(found, digits, unit))]


def _needed(rating: RatingCertainty, digits: int) -> str:
    further = f"more responses can bring it to ±{rating.floor:.{digits}f}, votes further"
    if rating.needed is None:
        return f"±{rating.wanted:.{digits}f} is out of reach of responses: {further}"
    if rating.needed == 0:
        return f"±{rating.half_width:.{digits}f} now; {further}"
    return f"about {counted(rating.needed, 'more response')} for ±{rating.wanted:.{digits}f}; {further}"


def _bought(size: PlannedSize, digits: int) -> list[tuple[str, str | None]]:
    return [
        ("embedding within", None if size.radius is None else f"{size.radius:.3f}"),
        ("rating ±", None if size.half_width is None else f"{size.half_width:.{digits}f}"),
        ("recognised in", None if size.recognition is None else f"{size.recognition:.0%} of cases"),
    ]


def neighbours(
    folder: ArtifactFolder,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a model in DIR.")],
    number: Annotated[int, typer.Option(min=1, help="Number of neighbours to show.")] = 5,
    drivers: Annotated[int, typer.Option(min=0, help="Number of style differences to show per neighbour.")] = 5,
    exemplars: Annotated[
        int, typer.Option(min=0, help="Number of responses to show per neighbour; shared prompts first.")
    ] = 1,
    json: Json = False,
) -> None:
    """Show the models most similar to a model, their differences in style, and responses to compare."""
    loaded = Artifact.load(folder)
    found, driven = loaded.neighbours(name, number, drivers), loaded.rating_drivers(name)
    value = {**asdict(found), "rating_drivers": driven and asdict(driven)}
    print_result(value, json, describe_neighbourhood(found, exemplars, driven))


def describe_neighbourhood(found: Neighbourhood, n_exemplars: int, driven: RatingDrivers | None = None) -> str:
    """The model beside the average of the others and beside each neighbour, on the same prompt where there is one."""
    lines = [f"{found.model} ({counted(found.responses, 'response')}), against the average of the other models:"]
    lines += list_drivers(found.drivers, "  no difference of style beyond chance")
    lines += _rating_drivers(driven, digits_of("elo"), " Elo", "   ")
    lines += _exemplars(found.model, found.exemplars[:n_exemplars])
    for rank, each in enumerate(found.neighbours, 1):
        lines += ["", f"{rank}. {each.model}: distance {each.distance:.3f}, {counted(each.responses, 'response')}"]
        lines += [f"   {found.model}, against {each.model}:"]
        lines += list_drivers(each.drivers, "  no difference of style beyond chance")
        shared = each.shared[:n_exemplars]
        lines += _side_by_side(found.model, each.model, shared)
        lines += _exemplars(each.model, each.exemplars[: n_exemplars - len(shared)])
    return "\n".join([*lines, "", _NOTE])


def _exemplars(model: str, exemplars: Sequence[Exemplar]) -> list[str]:
    lines = []
    for exemplar in exemplars:
        lines += [f"   typical of {model}:", *_indent("asked", exemplar.prompt), *_indent("said ", exemplar.response)]
    return lines


def _side_by_side(a: str, b: str, shared: Sequence[SharedPrompt]) -> list[str]:
    lines = []
    for each in shared:
        lines += ["   asked of both:", *_indent("asked", each.prompt)]
        for model, response in ((a, each.response_a), (b, each.response_b)):
            lines += [f"   {model}:", *_indent("said ", response)]
    return lines


def _indent(who: str, text: str) -> list[str]:
    first, *rest = text.strip().splitlines() or [""]
    return [f"     {who} | {first}", *(f"           | {line}" for line in rest)]


def identify(
    folder: ArtifactFolder,
    responses: ResponseSources,
    prior_none: Annotated[
        float, typer.Option(help="Prior probability that none of the models in DIR wrote the responses.")
    ] = 0.5,
    top: Annotated[int, typer.Option(min=1, help="Number of models to show; --json has all.")] = 5,
    columns: Columns = None,
    outcome: Outcomes = None,
    questions: Questions = None,
    cache: CacheFolder = None,
    backend: BackendChoice = "auto",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Identify which model in DIR wrote RESPONSES, if any; each model name in the file is judged separately."""
    reading = reading_options(columns, outcome, questions)
    loaded = open_artifact(folder, cache, backend)
    pairs, report = as_anonymous_responses(responses, reading)
    if report is not None:
        print_load_report(report)
    found = loaded.identify(pairs, prior_none)
    given = Counter(pairs.models[index] for index in pairs.model_index.tolist())
    value = [
        {"name": name, "likeliest": each.likeliest, "given_responses": given[name or UNNAMED], **asdict(each)}
        for name, each in found.items()
    ]
    text = "\n\n".join(describe_identification(name, each, top, given[name or UNNAMED]) for name, each in found.items())
    print_result(value, json, text)


def describe_identification(name: str | None, found: Identification, top: int, given: int) -> str:
    """The likeliest models with their probabilities, from some of the responses that were given."""
    answer = found.likeliest or "none of the known models"
    some = "" if found.n_responses == given else f"{found.n_responses:,} of "
    lines = [f"{name or UNNAMED}, {some}{counted(given, 'response')}: {answer}"]
    lines += [f"  {each.probability:6.1%}  {each.model}" for each in found.candidates[:top]]
    rest = sum(each.probability for each in found.candidates[top:])
    if len(found.candidates) > top:
        lines.append(f"  {rest:6.1%}  {counted(len(found.candidates) - top, 'other known model')}")
    lines.append(f"  {found.none:6.1%}  none of them")
    best = found.candidates[0].model
    if found.convinced:
        lines.append(f"  what speaks for {best} among the known models: {'; '.join(found.convinced)}")
    if found.shifted_model:
        lines.append(
            f"  it may be {best} ({found.share:.0%} of the known models' probability), shifted in all responses:"
        )
    elif found.shifted:
        lines.append(f"  what sets all responses apart from {best}:")
    if found.shifted:
        lines.append(f"    {'; '.join(found.shifted)}")
    return "\n".join([*lines, *list_changes(found.canonicalised)])


def list_changes(changes: Changes) -> list[str]:
    """A line about what was made canonical, where anything was."""
    text = describe_changes(changes)
    return [f"  canonical text: {text} responses"] if text else []


def list_drivers(drivers: Sequence[StyleDriver], otherwise: str) -> list[str]:
    """A line for each difference of style, or `otherwise` where there is none."""
    return [f"   - {driver.text}" for driver in drivers] or [f" {otherwise}"]


def remove(
    folder: ArtifactFolder,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Models to remove.")],
    output: OtherFolder = None,
    json: Json = False,
) -> None:
    """Remove models from DIR, with their embeddings and sampled responses."""
    change = Change(folder, output, lambda: Artifact.load(folder))
    left = change.apply(lambda loaded: loaded.remove(*names))
    removed = sorted(set(names))
    text = f"{change.target}: {', '.join(removed)} removed, {counted(len(left.models), 'model')} left"
    print_result({"output": str(change.target), "removed": removed, "models": len(left.models)}, json, text)


def encode(
    folder: ArtifactFolder,
    pairs: Annotated[
        str,
        typer.Argument(
            metavar="PAIRS", help="File with prompt and response columns, folder of shards, or hf://owner/name."
        ),
    ],
    output: TableFile,
    columns: Columns = None,
    outcome: Outcomes = None,
    questions: Questions = None,
    batch_size: BatchSize = 512,
    engine: EngineName = "local",
    address: Address = None,
    shard_rows: ShardRows = DEFAULT_SHARD_ROWS,
    cache: CacheFolder = None,
    backend: BackendChoice = "auto",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Embed (prompt, response) pairs. Keeps all columns and the order of rows; adds the column `embedding`."""
    check_table_file(output)
    reading = reading_options(columns, outcome, questions)
    sharding = Sharding(engine, address, shard_rows)
    job = describe_job("encode", folder, cache, backend, batch_size, reading)
    loaded = open_artifact(folder, cache, backend)
    progress = Progress()
    run = sharding.plan(job, loaded)
    report = run.over_file(pairs, output, lambda done: progress.show("encoding", done, None))
    value = {"output": str(output), "rows": report.rows, "dim": loaded.encoder.dim}
    print_result(value, json, f"{output}: {counted(report.rows, 'row')}, {loaded.encoder.dim} dimensions")

"""Benchmark of new LLMs' ratings by what is known of the others, and by what the new ones have answered.

The known LLMs are known by their votes, by one vote per prompt, by published ratings alone, or they are the lower two
thirds, so that every new one is beyond the known field. The new LLMs have answered prompts that known ones answered
(*shared*), others (*unshared*), or those that `prompts` chooses. All witnesses stand beside their joint reading.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from model_behavior.arrays import BoolArray, Float64Array, Int64Array
from model_behavior.benchmarks.rating_fields import (
    Lesson,
    TaughtField,
    as_published,
    responses_of_models,
    teach,
    thin_votes,
    without_families,
)
from model_behavior.benchmarks.rating_figures import RatingFigures, ReadRatings, measure_vote_errors, summarise
from model_behavior.benchmarks.stage2_plan import Stage2Plan
from model_behavior.catalog.asking import choose_prompts
from model_behavior.catalog.enrolment import prompt_keys
from model_behavior.data.filters import select_pairs
from model_behavior.data.rated_responses import draw_votes
from model_behavior.data.ratings import RatingTable
from model_behavior.data.split import pairs_of
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.scoring_types import ELO_PER_LOG_ODDS
from model_behavior.data_models.votes import PairTable, TrainingData, ValidationSplit
from model_behavior.errors import DataError
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.models.scoring.model_base import NORMAL_QUANTILE
from model_behavior.models.scoring.published_ratings import MEAN_ELO
from model_behavior.names import draw_held_out
from model_behavior.pipeline import gather_material
from model_behavior.preprocessing.scoring_votes import to_scoring_votes

RESPONSES = (4, 8, 32, 128)
"""Numbers of responses of each new LLM."""

POINT_RESPONSES = 8
"""Number of chosen prompts that the picture is drawn from."""

LENGTH, JOINED, NOTHING = "length", "joined", "the known LLMs' mean"
BY_VOTES, THINNED, BY_RATINGS, BEYOND = "", "one vote per prompt, ", "ratings only, ", "beyond the known field, "
SHARED, UNSHARED, CHOSEN = "shared", "unshared", "chosen prompts"
_SHOWN_BEYOND = 1 / 3
_LEAST_NEW = 2
_VALIDATION = 0.1
_SHARED_PROMPTS = 0.5

Key = tuple[str, int, str]
"""Cell, number of responses, and method."""


@dataclass(frozen=True)
class RatedPoint:
    """One new LLM from chosen prompts: its later rating, and the one read, with the ends of its interval; Elo."""

    name: str
    truth: float
    rating: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class CellReadings:
    """Readings of one seed.

    Attributes:
        read: readings by cell, number of responses and method.
        points: readings from chosen prompts, by their number, on the scale of the published ratings.
    """

    read: Mapping[Key, ReadRatings] = field(default_factory=dict)
    points: Mapping[int, tuple[RatedPoint, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class RatingCell:
    """One row of the tables."""

    cell: str
    responses: int
    method: str
    figures: RatingFigures


def measure_cells_of_votes(
    encoder: ModelBehaviorEncoder,
    prepared: PreprocessedBehaviorEncoderData,
    votes: TrainingData,
    plan: Stage2Plan,
    runtime: Runtime,
) -> CellReadings:
    """All cells of a vote file with one split.

    Args:
        encoder: encoder trained on the split.
        prepared: filtered votes and the split, with LLMs held out.
        votes: votes as they were loaded.
        plan: settings.
        runtime: cache and monitor.
    """
    seed, data, split = encoder.config.seed, prepared.data, prepared.split
    truth = _rate_all(votes)
    new = _new_responses(prepared)
    names = new.models
    found = [
        _measure(BY_VOTES, teach(Lesson(encoder, data, split.train), new, truth, plan.batch_size), plan, seed),
    ]
    thin = thin_votes(data, split, np.random.default_rng(seed))
    small, few = _train(thin, ValidationSplit(plan.validation_fraction, seed, held_out_models=names), plan, runtime)
    thinned = Lesson(small, few.data, few.split.train)
    found.append(_measure(THINNED, teach(thinned, new, truth, plan.batch_size), plan, seed))
    known = BradleyTerry()
    known.fit(to_scoring_votes(data, split.train))
    table = as_published(known)
    drawn = draw_votes(select_pairs(data.pairs, pairs_of(data, split.train)), table, seed)
    lesson = _teach_ratings(drawn, table, plan, seed, runtime)
    level = float(np.mean([truth[name] for name in known.models]))
    published = {name: value - level + MEAN_ELO / ELO_PER_LOG_ODDS for name, value in truth.items()}
    found.append(_measure(BY_RATINGS, teach(lesson, new, published, plan.batch_size), plan, seed))
    best = best_third(truth)
    upper, parts = _train(votes, ValidationSplit(plan.validation_fraction, seed, held_out_models=best), plan, runtime)
    over = Lesson(upper, parts.data, parts.split.train)
    found.append(_measure(BEYOND, teach(over, _new_responses(parts), truth, plan.batch_size), plan, seed))
    return _join(found)


@dataclass(frozen=True, eq=False)
class RatedMaterial:
    """What is known of LLMs whose ratings were published.

    Attributes:
        ratings: published ratings.
        responses: responses of rated LLMs; half of the prompts are shared.
        beside: votes on other LLMs, too, of which those on families that are left out are not used; None without.
    """

    ratings: RatingTable
    responses: PairTable
    beside: TrainingData | None = None


@dataclass(frozen=True)
class RatedResult:
    """One file of published ratings.

    Attributes:
        name: name of the file, and of the votes beside it.
        n_models: number of rated LLMs with responses.
        n_responses: number of their responses.
        cells: ratings of new LLMs, over all seeds.
        points: each LLM read from 8 chosen prompts, with the first seed that left its family out.
    """

    name: str
    n_models: int
    n_responses: int
    cells: tuple[RatingCell, ...]
    points: tuple[RatedPoint, ...]


def run_rated_benchmark(name: str, material: RatedMaterial, plan: Stage2Plan, runtime: Runtime) -> RatedResult:
    """Measures ratings of LLMs of other families, and of better LLMs, from those that were published."""
    rated = sorted(set(material.ratings.models) & set(material.responses.models))
    readings = []
    for seed in range(plan.seeds):
        runtime.monitor.on_progress(f"{name}, seeds", seed, plan.seeds)
        readings.append(measure_cells_of_ratings(material, plan, seed, runtime))
    runtime.monitor.on_progress(f"{name}, seeds", plan.seeds, plan.seeds)
    n_responses = len(responses_of_models(material.responses, rated))
    points = first_points(readings, POINT_RESPONSES)
    return RatedResult(name, len(rated), n_responses, summarise_cells(readings), points)


def measure_cells_of_ratings(material: RatedMaterial, plan: Stage2Plan, seed: int, runtime: Runtime) -> CellReadings:
    """The cells in which known LLMs are known by published ratings, with one draw of families and prompts.

    Args:
        material: ratings and responses.
        plan: settings.
        seed: seed of the families, the prompts and the training.
        runtime: cache and monitor.
    """
    ratings, responses = material.ratings, material.responses
    rng = np.random.default_rng(seed)
    rated = [name for name in ratings.models if name in responses.models]
    keys = prompt_keys(responses)
    distinct = np.unique(keys)
    shared = np.isin(keys, rng.permutation(distinct)[: round(_SHARED_PROMPTS * len(distinct))])
    truth = dict(zip(ratings.models, (ratings.rating / ELO_PER_LOG_ODDS).tolist(), strict=True))
    found = []
    for kind, out in (
        (BY_RATINGS, draw_held_out(rated, plan.held_out_share, rng)),
        (BEYOND, best_third({name: truth[name] for name in rated})),
    ):
        if len(out) < _LEAST_NEW:
            raise DataError(f"{len(out)} LLMs to leave out: at least {_LEAST_NEW} are needed. Fix: give more ratings")
        known = sorted(set(rated) - set(out))
        asked = responses_of_models(select_pairs(responses, np.flatnonzero(shared)), known)
        others = None if material.beside is None else without_families(material.beside, out)
        taught = gather_material(others, ratings.select(known), asked, seed)
        assert taught.data is not None
        lesson = _teach_ratings(taught.data, taught.ratings, plan, seed, runtime)
        new = responses_of_models(responses, out)
        found.append(_measure(kind, teach(lesson, new, truth, plan.batch_size), plan, seed))
    return _join(found)


def summarise_cells(seeds: Collection[CellReadings]) -> tuple[RatingCell, ...]:
    """Figures of every cell, number of responses and method over seeds."""
    keys = list(dict.fromkeys(key for each in seeds for key in each.read))
    return tuple(RatingCell(*key, summarise([each.read[key] for each in seeds if key in each.read])) for key in keys)


def first_points(seeds: Collection[CellReadings], responses: int) -> tuple[RatedPoint, ...]:
    """Each new LLM as it was read with the first seed that it was new with, by name."""
    found: dict[str, RatedPoint] = {}
    for each in seeds:
        for point in each.points.get(responses, ()):
            found.setdefault(point.name, point)
    return tuple(found[name] for name in sorted(found))


def best_third(truth: Mapping[str, float]) -> tuple[str, ...]:
    """The third of LLMs with the highest ratings, sorted by name."""
    best = sorted(truth, key=lambda name: -truth[name])
    return tuple(sorted(best[: round(_SHOWN_BEYOND * len(best))]))


def _teach_ratings(
    drawn: TrainingData, ratings: RatingTable | None, plan: Stage2Plan, seed: int, runtime: Runtime
) -> Lesson:
    encoder, prepared = _train(drawn, ValidationSplit(_VALIDATION, seed), plan, runtime)
    rows = np.sort(np.concatenate([prepared.split.train, prepared.split.validation]))
    return Lesson(encoder, prepared.data, rows, ratings)


def _train(
    votes: TrainingData, split: ValidationSplit, plan: Stage2Plan, runtime: Runtime
) -> tuple[ModelBehaviorEncoder, PreprocessedBehaviorEncoderData]:
    encoder = ModelBehaviorEncoder(config=EncoderConfig(seed=split.seed), runtime=runtime)
    prepared = encoder.prepare(votes, split)
    encoder.train_prepared(prepared, plan.epochs, plan.batch_size)
    return encoder, prepared


def _new_responses(prepared: PreprocessedBehaviorEncoderData) -> PairTable:
    """Responses of the LLMs that only held-out votes have."""
    data, split = prepared.data, prepared.split
    pairs = data.pairs
    known = set(pairs.model_index[pairs_of(data, np.concatenate([split.train, split.validation]))].tolist())
    return responses_of_models(pairs, [name for row, name in enumerate(pairs.models) if row not in known])


def _rate_all(votes: TrainingData) -> dict[str, float]:
    model = BradleyTerry()
    model.fit(to_scoring_votes(votes))
    rating: Float64Array = model.rating
    return dict(zip(model.models, rating.tolist(), strict=True))


def _join(found: Collection[CellReadings]) -> CellReadings:
    read = {key: value for each in found for key, value in each.read.items()}
    return CellReadings(read, {k: points for each in found for k, points in each.points.items()})


def _measure(kind: str, taught: TaughtField, plan: Stage2Plan, seed: int) -> CellReadings:
    """All cells of one field."""
    rng = np.random.default_rng(seed)
    errors = measure_vote_errors(taught.truth, taught.known, rng)
    read: dict[Key, ReadRatings] = {}
    for cell, allowed in ((SHARED, taught.new.met), (UNSHARED, ~taught.new.met)):
        for k in RESPONSES if allowed.any() else ():
            draws = [taught.new.draw(allowed, k, rng) for _ in range(plan.draws)]
            read |= {(kind + cell, k, method): value for method, value in _read(taught, draws, errors).items()}
    points: dict[int, tuple[RatedPoint, ...]] = {}
    if kind in (BY_VOTES, BY_RATINGS):
        for k, rows in _choose(taught):
            found = _read(taught, [rows], errors)
            read |= {(kind + CHOSEN, k, method): value for method, value in found.items()}
            if kind == BY_RATINGS:
                points[k] = _points(found[JOINED], taught.origin)
    return CellReadings(read, points)


def _choose(taught: TaughtField) -> Iterator[tuple[int, Int64Array]]:
    """Responses of the new LLMs to the prompts that `prompts` would choose, by their number."""
    if taught.book is None:
        return
    for k in RESPONSES[:-1]:
        chosen = choose_prompts(taught.book, taught.known, k)
        keys = np.array([int(each.key, 16) for each in chosen], dtype=np.uint64)
        asked: BoolArray = np.isin(taught.new.keys, keys)
        if len(np.unique(taught.new.owner[asked])) == len(taught.new.names):
            yield k, np.flatnonzero(asked)


def _read(taught: TaughtField, draws: Collection[Int64Array], vote_errors: Float64Array) -> dict[str, ReadRatings]:
    """Readings by method, of the LLMs that have a response in every draw."""
    names = taught.new.names
    means: dict[str, list[Float64Array]] = {}
    variances: dict[str, list[Float64Array]] = {}
    there = np.ones(len(names), dtype=bool)
    for rows in draws:
        table = taught.new.table(rows)
        place = [names.index(name) for name in table.names]
        there &= np.isin(np.arange(len(names)), place)
        joined = taught.reader.read(table)
        told = {
            LENGTH: taught.length.read(table),
            **taught.reader.tell(table),
            JOINED: (np.array([each.mean for each in joined]), np.array([each.variance for each in joined])),
            NOTHING: (np.full(len(place), taught.known.mean()), np.full(len(place), taught.known.var())),
        }
        for method, columns in told.items():
            for kept, column in zip((means, variances), columns, strict=True):
                whole = np.full(len(names), np.nan)
                whole[place] = column
                kept.setdefault(method, []).append(whole)
    responses = np.bincount(taught.new.owner[next(iter(draws))], minlength=len(names)).astype(np.int64)
    rows = np.flatnonzero(there)
    chosen = tuple(names[row] for row in rows)
    return {
        method: ReadRatings(
            names=chosen,
            truth=taught.truth[rows],
            mean=np.stack(mean)[:, rows],
            deviation=np.sqrt(np.stack(variances[method])[:, rows] + taught.level_variance),
            responses=responses[rows],
            vote_errors=vote_errors,
        )
        for method, mean in means.items()
        if np.isfinite(np.stack(variances[method])[:, rows]).all()
    }


def _points(read: ReadRatings, origin: float) -> tuple[RatedPoint, ...]:
    half = NORMAL_QUANTILE * read.deviation[0]
    columns = (read.truth, read.mean[0], read.mean[0] - half, read.mean[0] + half)
    elo = np.stack([ELO_PER_LOG_ODDS * (column + origin) for column in columns], axis=1)
    return tuple(RatedPoint(name, *map(float, row)) for name, row in zip(read.names, elo, strict=True))

"""Answers to questions about a snapshot: models, map, comparisons, ratings, routing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from model_behavior.artifact.rating_drivers import RatingDrivers, find_rating_drivers
from model_behavior.catalog import Catalog
from model_behavior.catalog.neighbours import find_neighbours, nearest_rows
from model_behavior.catalog.places import measure_ellipses
from model_behavior.catalog.samples import pair_answers
from model_behavior.catalog.style_drivers import StyleDriver, average_profile, find_drivers, profile_of
from model_behavior.data_models.scoring_types import ELO_PER_LOG_ODDS, ScaleName
from model_behavior.errors import ModelBehaviorError, UsageError
from model_behavior.models.scoring.model_base import rank_best_first
from model_behavior.routing.router import Alternative, Choice, Router
from model_behavior.serving import views
from model_behavior.serving.snapshot import Snapshot
from model_behavior.serving.views import (
    Comparison,
    ListedModel,
    MapPoint,
    ModelDetails,
    ModelList,
    ModelMap,
    MoreResponses,
    NearModel,
    NeighbourList,
    PlacedModel,
    Prediction,
    Ranking,
)

_N_DRIVERS = 5
_N_NEAR = 5


@dataclass(frozen=True)
class RouteQuery:
    """What to route, and routing settings, see `Router`; `models` and `costs` replace the configured ones.

    Attributes:
        prompt: prompt; the user's latest one of a conversation.
        earlier: user's earlier prompts in the conversation; the mean over all of them decides.
    """

    prompt: str
    earlier: tuple[str, ...] = ()
    models: tuple[str, ...] | None = None
    costs: Mapping[str, float] | None = None
    threshold: float | None = None
    floor: float | None = None
    reference: str | None = None


def list_models(snapshot: Snapshot, chat_models: Sequence[str]) -> ModelList:
    """All models, and the names that chat completions accept."""
    listed = tuple(ListedModel(name) for name in chat_models)
    return ModelList(snapshot.version, tuple(snapshot.rows.values()), listed)


def draw_map(snapshot: Snapshot) -> ModelMap:
    """The map of all models."""
    axes = snapshot.axes
    points = _points(snapshot, snapshot)
    return ModelMap(snapshot.version, "pca", (float(axes.shares[0]), float(axes.shares[1])), points)


def describe_model(snapshot: Snapshot, name: str) -> ModelDetails:
    """One model against the average of the others."""
    return describe_models(snapshot, [name])[0]


def describe_models(snapshot: Snapshot, names: Sequence[str]) -> list[ModelDetails]:
    """Each of some models against the average of the others."""
    for name in names:
        snapshot.row_of(name)  # reports an unknown name as the service does
    driven = find_rating_drivers(snapshot.artifact, names)
    return [_describe(snapshot, name, each) for name, each in zip(names, driven, strict=True)]


def _describe(snapshot: Snapshot, name: str, driven: RatingDrivers | None) -> ModelDetails:
    row, index = snapshot.row_of(name), snapshot.index_of(name)
    samples = snapshot.artifact.catalog.samples
    drivers: tuple[StyleDriver, ...] = ()
    if samples.style_count[index] > 1 and (samples.style_count > 1).sum() > 1:
        drivers = find_drivers(profile_of(samples, index), average_profile(samples, index), _N_DRIVERS)
    revisions = snapshot.revisions_of(name)[::-1]
    return ModelDetails(snapshot.version, row, drivers, driven, samples.exemplars[index], revisions, name)


def list_neighbours(snapshot: Snapshot, name: str, n: int) -> NeighbourList:
    """The models nearest to one."""
    snapshot.row_of(name)
    found = find_neighbours(snapshot.artifact.catalog, name, n, _N_DRIVERS)
    return NeighbourList(
        snapshot.version, found.model, found.responses, found.drivers, found.exemplars, found.neighbours
    )


def list_near(snapshot: Snapshot, name: str) -> tuple[NearModel, ...]:
    """The models nearest to one by distance alone, nearest first."""
    models = snapshot.artifact.models
    near = nearest_rows(models, snapshot.index_of(name), _N_NEAR)
    return tuple(NearModel(models.names[other], distance) for other, distance in near)


def compare_models(snapshot: Snapshot, a: str, b: str) -> Comparison:
    """Two models side by side."""
    rows = snapshot.row_of(a), snapshot.row_of(b)
    one, other = snapshot.index_of(a), snapshot.index_of(b)
    models, samples = snapshot.artifact.models, snapshot.artifact.catalog.samples
    both = samples.style_count[one] > 1 and samples.style_count[other] > 1 and one != other
    shared = pair_answers(samples, one, other)
    asked = {each.prompt for each in shared}
    prediction = None
    if snapshot.artifact.scorer is not None:
        prediction = Prediction(*map(float, snapshot.artifact.scorer.predict_on_average([a], [b])[0]))
    return Comparison(
        version=snapshot.version,
        a=rows[0],
        b=rows[1],
        distance=float(models.cosine_distances(one)[other]),
        drivers=find_drivers(profile_of(samples, one), profile_of(samples, other), 2 * _N_DRIVERS) if both else (),
        prediction=prediction,
        shared=shared,
        exemplars_a=tuple(each for each in samples.exemplars[one] if each.prompt not in asked),
        exemplars_b=tuple(each for each in samples.exemplars[other] if each.prompt not in asked),
    )


def rank_models(
    snapshot: Snapshot,
    prompt: str | None,
    models: Sequence[str] | None,
    category: str | None = None,
    scale: ScaleName = "elo",
) -> Ranking:
    """Models by rating over all prompts, on one, or in a category."""
    names = list(snapshot.rows) if models is None else list(dict.fromkeys(models))
    for name in names:
        snapshot.row_of(name)
    scorer = snapshot.scorer
    ranked = rank_best_first(scorer.rate(names, prompt, category).on(scorer.scale(scale)))
    return Ranking(snapshot.version, prompt is not None, scale, tuple(ranked))


def place_models(before: Snapshot, after: Snapshot, new: Catalog) -> tuple[PlacedModel, ...]:
    """The new models on the map as it was before them, with their neighbours among all models."""
    points = {point.name: point for point in _points(before, after)}
    placed = []
    drivers = find_rating_drivers(after.artifact, new.models.names)
    for name, driven in zip(new.models.names, drivers, strict=True):
        row = after.row_of(name)
        placed.append(
            PlacedModel(
                **vars(points[name]),
                spread=row.spread,
                low=row.low,
                high=row.high,
                beyond=row.beyond,
                rating_drivers=driven,
                neighbours=list_near(after, name),
                more=_plan_responses(after, name, row.count),
            )
        )
    return tuple(placed)


def find_route(snapshot: Snapshot, query: RouteQuery) -> views.Route:
    """Chooses a model for a prompt or a conversation.

    Raises:
        UsageError: both a threshold and a floor are given, or a setting is invalid.
        UnknownModelError, NotPossibleError: as for `Snapshot.make_router`.
    """
    router = _router_for(snapshot, query)
    return _view_route(snapshot, router, router.route_together([*query.earlier, query.prompt]))


def explain_route(snapshot: Snapshot, route: views.Route, model: str) -> dict[str, object]:
    """What a route says of one of its candidates, which another one may have had to stand in for."""
    chosen = Alternative(route.model, route.win_rate, route.cost)
    found = next(each for each in (chosen, *route.alternatives) if each.model == model)
    low, high = _interval(snapshot, model, route.reference, found.win_rate)
    runner_up = route.runner_up if model == route.model else route.model
    interval = {"win_rate": found.win_rate, "low": low, "high": high, "reference": route.reference}
    return {**interval, "cost": found.cost, "runner_up": runner_up}


def find_routes(snapshot: Snapshot, queries: Sequence[RouteQuery]) -> list[views.Route | Exception]:
    """Answers several queries, in order. Queries that differ by the prompt alone are answered together."""
    usual = [place for place, query in enumerate(queries) if query == RouteQuery(query.prompt)]
    found: dict[int, views.Route | Exception] = {}
    if usual and snapshot.artifact.scorer is not None and snapshot.prices:
        choices = snapshot.router.route([queries[place].prompt for place in usual])
        views_of = (_view_route(snapshot, snapshot.router, choice) for choice in choices)
        found = dict(zip(usual, views_of, strict=True))
    for place in set(range(len(queries))) - set(found):
        try:
            found[place] = find_route(snapshot, queries[place])
        except ModelBehaviorError as error:
            found[place] = error
    return [found[place] for place in range(len(queries))]


def _plan_responses(snapshot: Snapshot, name: str, count: int) -> tuple[MoreResponses, ...]:
    scorer = snapshot.artifact.scorer
    precision = None if scorer is None else scorer.precision(name, count)
    if precision is None:
        return ()
    needed = precision.responses_needed(precision.within_reach)
    return (MoreResponses(needed, ELO_PER_LOG_ODDS * precision.within_reach),) if needed else ()


def _points(before: Snapshot, after: Snapshot) -> tuple[MapPoint, ...]:
    """Models of `after` in the coordinates of `before`, best rating first."""
    models = after.artifact.models
    points = before.axes.place(models.mean)
    ellipses = measure_ellipses(before.artifact.catalog, before.axes, models)
    place = after.places
    return tuple(
        MapPoint(
            name=row.name,
            family=row.family,
            x=float(points[place[row.name], 0]),
            y=float(points[place[row.name], 1]),
            ellipse=ellipses[place[row.name]],
            count=row.count,
            votes=row.votes,
            enrolled=row.enrolled,
            rating=row.rating,
        )
        for row in after.rows.values()
    )


def _router_for(snapshot: Snapshot, query: RouteQuery) -> Router:
    if query.threshold is not None and query.floor is not None:
        raise UsageError("threshold and floor given. Allowed: one of them")
    own = query.models is not None or query.costs is not None or query.reference is not None
    router = snapshot.make_router(query.models, query.costs, query.reference) if own else snapshot.router
    if query.threshold is not None or query.floor is not None:
        router = replace(router, threshold=query.threshold or 0.0, floor=query.floor)
    return router


def _view_route(snapshot: Snapshot, router: Router, choice: Choice) -> views.Route:
    low, high = _interval(snapshot, choice.model, router.reference, choice.win_rate)
    return views.Route(
        version=snapshot.version,
        model=choice.model,
        win_rate=choice.win_rate,
        low=low,
        high=high,
        cost=choice.cost,
        reason=_reason(router),
        runner_up=choice.alternatives[0].model if choice.alternatives else None,
        reference=router.reference,
        threshold=router.threshold,
        floor=router.floor,
        alternatives=choice.alternatives,
    )


def _reason(router: Router) -> str:
    if len(router.candidates) == 1:
        return "the only candidate"
    if router.floor is not None:
        return f"the cheapest with an expected win rate of {router.floor:g} or more against the best"
    if router.threshold:
        return f"the best after costs, {router.threshold:g} win rate for a unit of cost"
    return "the best expected win rate"


def _interval(snapshot: Snapshot, model: str, reference: str, win_rate: float) -> tuple[float, float]:
    """The 95 % interval of an expected win rate: on the log-odds, with the variances of both ratings."""
    if model == reference:
        return win_rate, win_rate
    variance = 0.0
    for row in (snapshot.rows[model], snapshot.rows[reference]):
        if row.low is not None and row.high is not None:
            variance += ((row.high - row.low) / 2) ** 2
    bounded = min(max(win_rate, 1e-9), 1 - 1e-9)
    centre, half = math.log(bounded / (1 - bounded)), math.sqrt(variance)
    low, high = (1 / (1 + math.exp(-max(-700.0, min(700.0, end)))) for end in (centre - half, centre + half))
    return low, high

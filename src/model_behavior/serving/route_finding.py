"""Which model for a prompt: one question, or those that wait together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from model_behavior.errors import ModelBehaviorError, UsageError
from model_behavior.routing.router import Choice, Router
from model_behavior.serving import views
from model_behavior.serving.snapshot import Snapshot


@dataclass(frozen=True)
class RouteQuery:
    """A prompt and how to choose; see `Router`. `models` and `costs` replace what is configured."""

    prompt: str
    models: tuple[str, ...] | None = None
    costs: Mapping[str, float] | None = None
    threshold: float | None = None
    floor: float | None = None
    reference: str | None = None


def find_route(snapshot: Snapshot, query: RouteQuery) -> views.Route:
    """Which model for a prompt.

    Raises:
        UsageError: a threshold and a floor, or what cannot be routed by.
        UnknownModelError, NotPossibleError: as for `Snapshot.make_router`.
    """
    router = _router_for(snapshot, query)
    return _view_route(snapshot, router, router.route([query.prompt])[0])


def find_routes(snapshot: Snapshot, queries: Sequence[RouteQuery]) -> list[views.Route | Exception]:
    """The same for several, in order: those that only differ by the prompt are answered at once."""
    usual = [place for place, query in enumerate(queries) if query == RouteQuery(query.prompt)]
    found: dict[int, views.Route | Exception] = {}
    if usual and snapshot.artifact.scorer is not None:
        choices = snapshot.router.route([queries[place].prompt for place in usual])
        views_of = (_view_route(snapshot, snapshot.router, choice) for choice in choices)
        found = dict(zip(usual, views_of, strict=True))
    for place in set(range(len(queries))) - set(found):
        try:
            found[place] = find_route(snapshot, queries[place])
        except ModelBehaviorError as error:
            found[place] = error
    return [found[place] for place in range(len(queries))]


def _router_for(snapshot: Snapshot, query: RouteQuery) -> Router:
    if query.threshold is not None and query.floor is not None:
        raise UsageError("threshold and floor given. Allowed: one of them")
    router = snapshot.router
    if query.models is not None or query.costs is not None or query.reference is not None:
        router = snapshot.make_router(query.models, query.costs, query.reference)
    if query.threshold is not None or query.floor is not None:
        router = replace(router, threshold=query.threshold or 0.0, floor=query.floor)
    return router


def _view_route(snapshot: Snapshot, router: Router, choice: Choice) -> views.Route:
    return views.Route(
        version=snapshot.version,
        model=choice.model,
        win_rate=choice.win_rate,
        cost=choice.cost,
        reference=router.reference,
        threshold=router.threshold,
        floor=router.floor,
        alternatives=choice.alternatives,
    )

"""The router and its calibration over fitted scoring models."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from model_behavior.errors import DataError, UsageError
from model_behavior.evaluation.routing import measure_routing, measure_win_rates, votes_between
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.dense_network_training import ScoringSchedule
from model_behavior.routing.costs import CostTable
from model_behavior.routing.router import Router, expect_win_rates, make_router
from model_behavior.routing.traffic import Traffic
from tests.models.scoring.scoring_votes import TOPICS, draw_votes

PRICES = {"ant-1": 0.1, "bee-1": 0.2, "cat-1": 0.4, "fox-1": 2.0, "gnu-1": 4.0, "hen-1": 5.0}
WORDS = " ".join(TOPICS).split()
PROMPTS = [" ".join(np.random.default_rng(seed).choice(WORDS, 8, replace=False)) for seed in range(60)]


@pytest.fixture(scope="module")
def scorer() -> DenseNetworkModel:
    """A network that has learned which models do well on which topic."""
    model = DenseNetworkModel(config=DenseNetworkConfig(model_source="id", schedule=ScoringSchedule(epochs=8)))
    model.fit(draw_votes(6000, by_topic=2.0))
    return model


@pytest.fixture(scope="module")
def traffic(scorer: DenseNetworkModel) -> Traffic:
    return Traffic.of_prompts(make_router(scorer, CostTable(PRICES)), PROMPTS)


def test_win_rates_are_those_of_the_scorer(scorer: DenseNetworkModel) -> None:
    names = ("ant-1", "hen-1", "gnu-1")
    rates = expect_win_rates(scorer, PROMPTS[:4], names, ["gnu-1", "ant-1", "gnu-1", "gnu-1"])
    for row, (prompt, rival) in enumerate(zip(PROMPTS, ["gnu-1", "ant-1", "gnu-1", "gnu-1"], strict=False)):
        for column, name in enumerate(names):
            ((win, _, tie, bad),) = scorer.predict([prompt], [name], [rival])
            assert rates[row, column] == pytest.approx(win + (tie + bad) / 2, abs=1e-6)
    assert rates[0, 2] == 0.5 and rates[1, 0] == 0.5


def test_candidates_are_the_priced_models_and_the_best_rated_is_the_reference(traffic: Traffic) -> None:
    router = traffic.router
    assert router.candidates == tuple(PRICES) and router.reference in ("gnu-1", "hen-1")
    assert (traffic.quality[:, router.candidates.index(router.reference)] == 0.5).all()


def test_choices_tell_what_else_there_was(traffic: Traffic) -> None:
    choices = replace(traffic.router, threshold=0.05).route(PROMPTS[:6])
    for row, choice in enumerate(choices):
        names = [choice.model, *(each.model for each in choice.alternatives)]
        assert sorted(names) == sorted(PRICES) and choice.cost == PRICES[choice.model]
        assert choice.win_rate == pytest.approx(traffic.quality[row, list(PRICES).index(choice.model)], abs=1e-6)
        others = [each.win_rate for each in choice.alternatives]
        assert others == sorted(others, reverse=True)
    assert traffic.router.route([]) == []


@pytest.mark.parametrize("budget", [0.1, 0.15, 0.5, 1.0, 2.5, 4.0, 100.0])
def test_the_budget_holds_on_the_calibration_prompts_and_is_used(traffic: Traffic, budget: float) -> None:
    threshold = traffic.threshold_for_budget(budget)
    choices = replace(traffic.router, threshold=threshold).route(PROMPTS)
    assert np.mean([choice.cost for choice in choices]) <= budget + 1e-9
    point = traffic.describe(threshold)
    assert point.mean_cost == pytest.approx(np.mean([choice.cost for choice in choices]))
    assert sum(point.shares.values()) == pytest.approx(1) and threshold >= 0
    cheaper_fits = [
        t for t in traffic.sweep.threshold if 0 <= t < threshold and traffic.describe(t).mean_cost <= budget
    ]
    assert all(traffic.describe(t).mean_cost == pytest.approx(point.mean_cost) for t in cheaper_fits)


def test_no_choice_within_the_budget_is_better(scorer: DenseNetworkModel) -> None:
    """Of all 3^7 ways to send 7 prompts to 3 models, none that costs as little wins more."""
    costs = CostTable({name: PRICES[name] for name in ("bee-1", "fox-1", "hen-1")})
    traffic = Traffic.of_prompts(make_router(scorer, costs), PROMPTS[:7])
    ways = np.stack(np.meshgrid(*[range(3)] * 7), axis=-1).reshape(-1, 7)
    cost = traffic.costs[ways].mean(axis=1)
    win_rate = traffic.quality[np.arange(7), ways].mean(axis=1)
    for threshold in (0.0, 0.02, 0.05, 0.2):
        point = traffic.describe(threshold)
        assert win_rate[cost <= point.mean_cost + 1e-12].max() == pytest.approx(point.win_rate)


def test_the_curve_falls_and_beats_the_mix_that_does_not_look(traffic: Traffic) -> None:
    points = traffic.curve()
    assert len(points) > 10 and points[0].threshold == 0
    assert all(a.mean_cost > b.mean_cost and a.win_rate >= b.win_rate for a, b in pairwise(points))
    assert points[-1].mean_cost == pytest.approx(0.1) and points[-1].shares["ant-1"] == 1
    assert all(point.win_rate >= point.blind_win_rate - 1e-9 for point in points)
    router = make_router(traffic.router.scorer, CostTable({"fox-1": 1.0, "gnu-1": 2.0}))
    by_topic = Traffic.of_prompts(router, [f"{TOPICS[index % 3]} {index}" for index in range(60)]).curve()
    assert max(point.win_rate - point.blind_win_rate for point in by_topic) > 0.05


def test_the_floor_holds_on_every_prompt(traffic: Traffic, scorer: DenseNetworkModel) -> None:
    best = [list(PRICES)[column] for column in traffic.quality.argmax(axis=1)]
    against_best = expect_win_rates(scorer, PROMPTS, tuple(PRICES), best)
    for floor in (0.0, 0.3, 0.45, 0.5):
        for row, choice in enumerate(replace(traffic.router, floor=floor).route(PROMPTS)):
            rates = dict(zip(PRICES, against_best[row], strict=True))
            assert rates[choice.model] >= floor
            assert not [name for name in PRICES if PRICES[name] < choice.cost and rates[name] >= floor + 1e-6]


def test_the_share_of_strong_calls_is_met(scorer: DenseNetworkModel) -> None:
    router = make_router(scorer, CostTable(PRICES), ["ant-1", "hen-1"])
    traffic = Traffic.of_prompts(router, PROMPTS)
    for share in (0.0, 0.1, 0.5, 0.75, 1.0):
        threshold = traffic.threshold_for_strong_share(share)
        assert traffic.describe(threshold).shares["hen-1"] == pytest.approx(share, abs=1 / len(PROMPTS))
        assert traffic.describe(threshold).shares["hen-1"] <= share + 1e-9
        cut = traffic.win_rate_cut(threshold)
        assert cut is not None
        probability = expect_win_rates(scorer, PROMPTS, ["hen-1"], ["ant-1"] * len(PROMPTS))[:, 0]
        assert (probability > cut).mean() == pytest.approx(traffic.describe(threshold).shares["hen-1"])


def test_targets_that_cannot_be_met(traffic: Traffic, scorer: DenseNetworkModel) -> None:
    with pytest.raises(UsageError, match="cheapest candidate costs 0.1"):
        traffic.threshold_for_budget(0.05)
    with pytest.raises(UsageError, match="cheapest"):
        traffic.threshold_for_budget(float("nan"))
    with pytest.raises(UsageError, match="two candidates"):
        traffic.threshold_for_strong_share(0.5)
    with pytest.raises(UsageError, match="0 to 1"):
        traffic.threshold_for_strong_share(1.5)
    with pytest.raises(DataError, match="no prompts"):
        Traffic.of_prompts(traffic.router, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"costs": {"hen-2": 1.0}}, "cost table: unknown model 'hen-2'; nearest .*hen-1"),
        ({"costs": PRICES, "models": ["dog-1"]}, "no cost of dog-1"),
        ({"costs": PRICES, "models": ["doge-1"]}, "unknown model 'doge-1'"),
        ({"costs": PRICES, "reference": "hen"}, "unknown model 'hen'"),
        ({"costs": PRICES, "models": ["ant-1", "ant-1"]}, "none twice"),
    ],
)
def test_names_are_checked(scorer: DenseNetworkModel, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_router(scorer, CostTable(arguments.pop("costs")), **arguments)


def test_settings_are_checked(traffic: Traffic) -> None:
    router: Router = traffic.router
    for change in ({"floor": 0.6}, {"floor": -0.1}, {"threshold": float("nan")}, {"floor": 0.4, "threshold": 1.0}):
        with pytest.raises(UsageError, match="floor"):
            replace(router, **change)  # type: ignore[arg-type]


def test_a_router_that_reads_prompts_recovers_more_than_one_that_does_not(scorer: DenseNetworkModel) -> None:
    costs = {name: float(index // 4) for index, name in enumerate(draw_votes(10).models)}
    votes = votes_between(draw_votes(4000, seed=9, by_topic=2.0), costs)
    assert len(votes) < 4000
    ratings = BradleyTerry()
    ratings.fit(draw_votes(6000, by_topic=2.0))
    by_prompt, blind = (measure_routing(model, votes, costs) for model in (scorer, ratings))
    assert by_prompt.apgr.low > blind.apgr.value and by_prompt.apgr.low <= by_prompt.apgr.value <= by_prompt.apgr.high
    assert by_prompt.cpt[0.5].value < blind.cpt[0.5].value
    assert by_prompt.strong_win_rate == blind.strong_win_rate
    router = make_router(scorer, CostTable({name: cost + 0.5 for name, cost in costs.items()}))
    dear, best, cheap = measure_win_rates(router, votes, [-100.0, 0.0, 100.0])
    assert dear == pytest.approx(by_prompt.strong_win_rate.value) and cheap == pytest.approx(1 - dear)
    assert best > max(dear, cheap) + 0.01


def test_votes_between_equal_costs_measure_nothing() -> None:
    with pytest.raises(DataError, match="different cost"):
        votes_between(draw_votes(50), dict.fromkeys(draw_votes(10).models, 1.0))

"""The weighted sum of the terms, and its configuration."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch.nn import functional

from model_behavior.errors import UsageError
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.objectives import (
    Distance,
    Objective,
    ObjectiveConfig,
    TripletBatch,
)
from tests.models.objective_loops import (
    compactness_by_loops,
    contrast_by_loops,
    distance_by_loops,
    dot,
    kl_by_loops,
    normalised,
    proxy_by_loops,
    random_rows,
)

OFF: dict[str, Any] = {"triplet": 0, "proxy": 0, "vote": 0, "compactness": 0, "kl": 0, "contrastive": 0}
ALL: dict[str, Any] = {"triplet": 1, "proxy": 1, "vote": 1, "compactness": 1, "kl": 1, "contrastive": 1}
TERMS = ("triplet", "proxy", "contrastive", "vote", "compactness", "kl")


def batch(raw: torch.Tensor | None = None) -> TripletBatch:
    """Six pairs of three models on two prompts; of four triplets the third is no decided vote."""
    return TripletBatch(
        raw=random_rows(6, 4, 0) * 2 if raw is None else raw,
        anchor=torch.tensor([0, 1, 2, 3]),
        positive=torch.tensor([3, 4, 5, 0]),
        negative=torch.tensor([1, 2, 0, 5]),
        decided=torch.tensor([True, True, False, True]),
        model=torch.tensor([0, 1, 2, 0, 1, 2]),
        prompt=torch.tensor([0, 0, 0, 1, 1, 1]),
        text=torch.arange(6),
    )


def make_objective(config: ObjectiveConfig) -> Objective:
    torch.manual_seed(3)
    return Objective(n_models=3, dim=4, config=config)


def terms_by_loops(objective: Objective, of: TripletBatch) -> dict[str, float]:
    config = objective.config
    unit = [normalised(row) for row in of.raw.tolist()]
    index = zip(of.anchor.tolist(), of.positive.tolist(), of.negative.tolist(), of.decided.tolist(), strict=True)
    hinges, votes = [], []
    for anchor, positive, negative, decided in index:
        near = distance_by_loops(unit[anchor], unit[positive], config.distance)
        far = distance_by_loops(unit[anchor], unit[negative], config.distance)
        hinges.append(max(0.0, near - far + config.margin))
        if decided:
            read_out = objective.quality.weight[0].tolist()
            advantage = config.proxy_scale * (dot(read_out, unit[anchor]) - dot(read_out, unit[negative]))
            votes.append(math.log(1 + math.exp(-advantage)))
    model = of.model.tolist()
    return {
        "triplet": sum(hinges) / len(hinges),
        "proxy": proxy_by_loops(unit, objective.proxies.tolist(), model, config.proxy_scale),
        "contrastive": contrast_by_loops(unit, of, config.temperature),
        "vote": sum(votes) / len(votes),
        "compactness": compactness_by_loops(unit, model),
        "kl": kl_by_loops(of.raw.tolist()),
    }


class TestObjective:
    @pytest.mark.parametrize("distance", ["cosine", "euclidean"])
    def test_the_loss_is_the_weighted_sum(self, distance: Distance) -> None:
        weights = {"triplet": 1.0, "proxy": 0.2, "contrastive": 0.7, "vote": 0.3, "compactness": 0.5, "kl": 0.05}
        settings = {"distance": distance, "temperature": 0.3}
        objective = make_objective(ObjectiveConfig(**(OFF | settings | weights)))
        loss, terms = objective(batch())
        expected = terms_by_loops(objective, batch())
        assert dict(terms) == pytest.approx(expected, rel=1e-4)
        total = sum(weights[name] * value for name, value in expected.items())
        assert float(loss.detach()) == pytest.approx(total, rel=1e-4)

    @pytest.mark.parametrize("name", TERMS)
    def test_a_term_with_weight_zero_is_absent(self, name: str) -> None:
        _, terms = make_objective(ObjectiveConfig(**(ALL | {name: 0})))(batch())
        assert set(terms) == set(TERMS) - {name}

    @pytest.mark.parametrize("name", TERMS)
    def test_a_term_alone_is_the_loss(self, name: str) -> None:
        loss, terms = make_objective(ObjectiveConfig(**(OFF | {name: 2.0})))(batch())
        assert list(terms) == [name]
        assert float(loss.detach()) == pytest.approx(2 * terms[name])

    @pytest.mark.parametrize("name", TERMS)
    @pytest.mark.parametrize("raw", ["random", "equal", "zero"])
    def test_gradients_are_finite(self, name: str, raw: str) -> None:
        rows = {"random": random_rows(6, 4, 0), "equal": torch.ones(6, 4), "zero": torch.zeros(6, 4)}[raw]
        rows.requires_grad_()
        objective = make_objective(ObjectiveConfig(**(OFF | {name: 1.0})))
        loss, _ = objective(batch(rows))
        loss.backward()
        gradients = [rows.grad, *(parameter.grad for parameter in objective.parameters())]
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)
        assert rows.grad is not None
        assert raw != "random" or rows.grad.abs().sum() > 0

    def test_the_quality_direction_gives_log_odds(self) -> None:
        objective = make_objective(ObjectiveConfig(**(OFF | {"vote": 1.0, "proxy_scale": 4.0})))
        direction = objective.quality_direction()
        assert direction is not None
        unit = functional.normalize(batch().raw, dim=1).numpy()
        score = unit @ direction
        decided = [(0, 1), (1, 2), (3, 5)]
        expected = sum(math.log(1 + math.exp(score[loser] - score[winner])) for winner, loser in decided) / 3
        assert objective(batch())[1]["vote"] == pytest.approx(expected, rel=1e-5)

    def test_without_votes_there_is_no_quality_direction(self) -> None:
        assert make_objective(ObjectiveConfig(**(OFF | {"triplet": 1.0}))).quality_direction() is None


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({}, "one must be above 0"),
        ({"triplet": -1.0}, "triplet=-1"),
        ({"contrastive": math.nan}, "contrastive=nan"),
        ({"triplet": 1.0, "distance": "manhattan"}, "'manhattan'"),
        ({"contrastive": 1.0, "temperature": 0.0}, "temperature=0"),
    ],
)
def test_settings_that_make_no_loss_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        ObjectiveConfig(**(OFF | wrong))


def test_a_configuration_saved_before_a_field_was_there_has_its_default() -> None:
    saved = EncoderConfig(objectives=ObjectiveConfig(margin=0.3)).to_json()
    for name in ("contrastive", "temperature"):
        del saved["objectives"][name]
    assert asdict(EncoderConfig.from_json(saved)) == asdict(EncoderConfig(objectives=ObjectiveConfig(margin=0.3)))

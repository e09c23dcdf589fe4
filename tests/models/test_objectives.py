from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from model_behavior.errors import UsageError
from model_behavior.models.behavior.objectives import (
    Distance,
    Objective,
    ObjectiveConfig,
    TripletBatch,
    compactness_loss,
    distance_between,
    kl_to_standard_normal,
    proxy_softmax_loss,
    triplet_margin_loss,
    vote_logistic_loss,
)

Vector = list[float]

OFF: dict[str, Any] = {"triplet": 0, "proxy": 0, "vote": 0, "compactness": 0, "kl": 0}
ALL: dict[str, Any] = {"triplet": 1, "proxy": 1, "vote": 1, "compactness": 1, "kl": 1}
TERMS = ("triplet", "proxy", "vote", "compactness", "kl")


def random_rows(n: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def unit_rows(n: int, dim: int, seed: int) -> torch.Tensor:
    return functional.normalize(random_rows(n, dim, seed), dim=1)


def dot(left: Vector, right: Vector) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def normalised(vector: Vector) -> Vector:
    return [value / math.sqrt(dot(vector, vector)) for value in vector]


def distance_by_loops(left: Vector, right: Vector, distance: Distance) -> float:
    if distance == "cosine":
        return 1 - dot(left, right)
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(left, right, strict=True)))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
class TestTriplet:
    @pytest.mark.parametrize("margin", [0.0, 0.1, 0.3])
    def test_it_is_the_mean_hinge(self, distance: Distance, margin: float) -> None:
        anchor, positive, negative = (unit_rows(20, 5, seed) for seed in (1, 2, 3))
        hinges = [
            max(0.0, distance_by_loops(a, p, distance) - distance_by_loops(a, n, distance) + margin)
            for a, p, n in zip(anchor.tolist(), positive.tolist(), negative.tolist(), strict=True)
        ]
        assert 0 < sum(hinge == 0 for hinge in hinges) < 20
        loss = triplet_margin_loss(anchor, positive, negative, margin, distance)
        assert float(loss) == pytest.approx(sum(hinges) / 20, abs=1e-5)

    def test_equal_points_lie_at_the_margin(self, distance: Distance) -> None:
        point = unit_rows(4, 3, 0)
        assert float(triplet_margin_loss(point, point, point, 0.3, distance)) == pytest.approx(0.3, abs=1e-5)

    def test_opposite_points_are_two_apart(self, distance: Distance) -> None:
        point = unit_rows(4, 3, 0)
        torch.testing.assert_close(distance_between(point, -point, distance), torch.full((4,), 2.0), rtol=0, atol=1e-5)

    def test_equal_points_have_a_finite_gradient(self, distance: Distance) -> None:
        point = unit_rows(4, 3, 0).requires_grad_()
        loss = triplet_margin_loss(point, point.clone(), point.clone(), 0.3, distance)
        loss.backward()  # type: ignore[no-untyped-call]
        assert point.grad is not None
        assert point.grad.isfinite().all()


def proxy_by_loops(unit: list[Vector], proxies: list[Vector], model: list[int], scale: float) -> float:
    total = 0.0
    for vector, own in zip(unit, model, strict=True):
        logits = [scale * dot(vector, normalised(proxy)) for proxy in proxies]
        total -= logits[own] - math.log(sum(math.exp(logit) for logit in logits))
    return total / len(unit)


def test_proxy_softmax_is_that_of_loops() -> None:
    unit, proxies, model = unit_rows(7, 4, 0), random_rows(3, 4, 1) * 5, [0, 1, 2, 2, 1, 0, 0]
    loss = proxy_softmax_loss(unit, proxies, torch.tensor(model), 16.0)
    assert float(loss) == pytest.approx(proxy_by_loops(unit.tolist(), proxies.tolist(), model, 16.0), rel=1e-5)


def test_the_length_of_a_proxy_does_not_matter() -> None:
    unit, proxies, model = unit_rows(5, 4, 0), random_rows(3, 4, 1), torch.tensor([0, 1, 2, 2, 1])
    loss = proxy_softmax_loss(unit, proxies, model, 8.0)
    torch.testing.assert_close(proxy_softmax_loss(unit, proxies * 100, model, 8.0), loss)


def test_vote_loss_by_hand() -> None:
    winner, loser = torch.tensor([1.0, 0.0, -3.0]), torch.tensor([0.0, 0.0, 2.0])
    expected = (math.log(1 + math.exp(-1)) + math.log(2) + math.log(1 + math.exp(5))) / 3
    assert float(vote_logistic_loss(winner, loser)) == pytest.approx(expected, rel=1e-6)


def test_vote_loss_without_votes_is_zero() -> None:
    score = torch.zeros(3, requires_grad=True)
    nobody = torch.zeros(3, dtype=torch.bool)
    loss = vote_logistic_loss(score[nobody], score[nobody])
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert score.grad is not None
    assert score.grad.tolist() == [0, 0, 0]


def compactness_by_loops(unit: list[Vector], model: list[int]) -> float:
    total = 0.0
    for vector, own in zip(unit, model, strict=True):
        members = [other for other, name in zip(unit, model, strict=True) if name == own]
        centre = [sum(column) / len(members) for column in zip(*members, strict=True)]
        total += sum((value - mean) ** 2 for value, mean in zip(vector, centre, strict=True))
    return total / len(unit)


def test_compactness_is_that_of_loops() -> None:
    unit, model = unit_rows(8, 3, 0), [5, 2, 5, 9, 2, 5, 9, 0]
    loss = compactness_loss(unit, torch.tensor(model))
    assert float(loss) == pytest.approx(compactness_by_loops(unit.tolist(), model), rel=1e-5)


def test_a_model_on_one_point_is_compact() -> None:
    assert float(compactness_loss(unit_rows(1, 3, 0).repeat(4, 1), torch.tensor([1, 1, 2, 3]))) == pytest.approx(0)


def kl_by_loops(raw: list[Vector]) -> float:
    terms: list[float] = []
    for column in zip(*raw, strict=True):
        mean: float = sum(column) / len(column)
        variance: float = sum((value - mean) ** 2 for value in column) / len(column)
        terms.append((variance + mean**2 - 1 - math.log(variance)) / 2)
    return sum(terms) / len(terms)


def test_kl_is_that_of_the_batch_moments() -> None:
    raw = random_rows(9, 4, 0) * 3 + 1
    assert float(kl_to_standard_normal(raw)) == pytest.approx(kl_by_loops(raw.tolist()), rel=1e-5)


def test_kl_of_a_standard_batch_is_zero() -> None:
    assert float(kl_to_standard_normal(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("rows", [1, 0])
def test_kl_needs_two_rows(rows: int) -> None:
    assert float(kl_to_standard_normal(random_rows(rows, 4, 0))) == 0


def batch(raw: torch.Tensor | None = None) -> TripletBatch:
    """Six pairs of three models; of four triplets the first, second and last are decided votes."""
    return TripletBatch(
        raw=random_rows(6, 4, 0) * 2 if raw is None else raw,
        anchor=torch.tensor([0, 1, 2, 3]),
        positive=torch.tensor([3, 4, 5, 0]),
        negative=torch.tensor([1, 2, 0, 5]),
        decided=torch.tensor([True, True, False, True]),
        model=torch.tensor([0, 1, 2, 0, 1, 2]),
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
        "vote": sum(votes) / len(votes),
        "compactness": compactness_by_loops(unit, model),
        "kl": kl_by_loops(of.raw.tolist()),
    }


class TestObjective:
    @pytest.mark.parametrize("distance", ["cosine", "euclidean"])
    def test_the_loss_is_the_weighted_sum(self, distance: Distance) -> None:
        weights = {"triplet": 1.0, "proxy": 0.2, "vote": 0.3, "compactness": 0.5, "kl": 0.05}
        objective = make_objective(ObjectiveConfig(**(OFF | {"distance": distance} | weights)))
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


@pytest.mark.parametrize("wrong", [{}, {"triplet": -1.0}, {"triplet": 1.0, "distance": "manhattan"}])
def test_weights_that_make_no_loss_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ObjectiveConfig(**(OFF | wrong))

"""Every term against plain loops."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from model_behavior.models.behavior.objectives import (
    Distance,
    TripletBatch,
    compactness_loss,
    distance_between,
    kl_to_standard_normal,
    proxy_softmax_loss,
    supervised_contrastive_loss,
    triplet_margin_loss,
    vote_logistic_loss,
)
from tests.models.objective_loops import (
    compactness_by_loops,
    contrast_by_loops,
    distance_by_loops,
    kl_by_loops,
    proxy_by_loops,
    random_rows,
    unit_rows,
)


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


def test_proxy_softmax_is_that_of_loops() -> None:
    unit, proxies, model = unit_rows(7, 4, 0), random_rows(3, 4, 1) * 5, [0, 1, 2, 2, 1, 0, 0]
    loss = proxy_softmax_loss(unit, proxies, torch.tensor(model), 16.0)
    assert float(loss) == pytest.approx(proxy_by_loops(unit.tolist(), proxies.tolist(), model, 16.0), rel=1e-5)


def test_the_length_of_a_proxy_does_not_matter() -> None:
    unit, proxies, model = unit_rows(5, 4, 0), random_rows(3, 4, 1), torch.tensor([0, 1, 2, 2, 1])
    loss = proxy_softmax_loss(unit, proxies, model, 8.0)
    torch.testing.assert_close(proxy_softmax_loss(unit, proxies * 100, model, 8.0), loss)


def groups(model: list[int], prompt: list[int], text: list[int]) -> TripletBatch:
    """A batch without triplets."""
    nothing, nobody = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)
    ids = (torch.tensor(each) for each in (model, prompt, text))
    return TripletBatch(random_rows(len(model), 4, 0), nothing, nothing, nothing, nobody, *ids)


class TestContrast:
    def test_it_is_that_of_loops(self) -> None:
        """Pair 8 is a second answer of model 1 to prompt 1, pair 9 says what pair 0 says, model 3 answers once."""
        of = groups([0, 0, 0, 1, 1, 1, 2, 2, 1, 2, 3], [0, 1, 2, 0, 1, 2, 0, 1, 1, 2, 2], [*range(9), 0, 10])
        unit = unit_rows(11, 4, 3)
        loss = supervised_contrastive_loss(unit, of, 0.2)
        assert float(loss) == pytest.approx(contrast_by_loops(unit.tolist(), of, 0.2), rel=1e-5)

    def test_by_hand(self) -> None:
        """Two pairs of a model at right angles, one of another model on top of the first: log 1/(1+e^2), log 1/2."""
        unit = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        loss = supervised_contrastive_loss(unit, groups([0, 0, 1], [0, 1, 0], [0, 1, 2]), 0.5)
        assert float(loss) == pytest.approx((math.log(1 + math.exp(2)) + math.log(2)) / 2)

    def test_pairs_of_one_prompt_do_not_attract(self) -> None:
        unit = unit_rows(3, 4, 0).requires_grad_()
        loss = supervised_contrastive_loss(unit, groups([0, 0, 1], [5, 5, 5], [0, 1, 2]), 0.1)
        loss.backward()  # type: ignore[no-untyped-call]
        assert float(loss.detach()) == 0
        assert unit.grad is not None and not unit.grad.any()

    def test_it_neither_sees_rotation_nor_order(self) -> None:
        of, unit = groups([0, 0, 1, 1, 2], [0, 1, 0, 1, 0], [0, 1, 2, 3, 4]), unit_rows(5, 4, 0)
        rotation, _ = torch.linalg.qr(random_rows(4, 4, 9))
        expected = supervised_contrastive_loss(unit, of, 0.1)
        torch.testing.assert_close(supervised_contrastive_loss(unit @ rotation, of, 0.1), expected)
        order = torch.tensor([3, 0, 4, 2, 1])
        moved = replace(of, model=of.model[order], prompt=of.prompt[order], text=of.text[order])
        torch.testing.assert_close(supervised_contrastive_loss(unit[order], moved, 0.1), expected)


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


def test_compactness_is_that_of_loops() -> None:
    unit, model = unit_rows(8, 3, 0), [5, 2, 5, 9, 2, 5, 9, 0]
    loss = compactness_loss(unit, torch.tensor(model))
    assert float(loss) == pytest.approx(compactness_by_loops(unit.tolist(), model), rel=1e-5)


def test_a_model_on_one_point_is_compact() -> None:
    assert float(compactness_loss(unit_rows(1, 3, 0).repeat(4, 1), torch.tensor([1, 1, 2, 3]))) == pytest.approx(0)


def test_kl_is_that_of_the_batch_moments() -> None:
    raw = random_rows(9, 4, 0) * 3 + 1
    assert float(kl_to_standard_normal(raw)) == pytest.approx(kl_by_loops(raw.tolist()), rel=1e-5)


def test_kl_of_a_standard_batch_is_zero() -> None:
    assert float(kl_to_standard_normal(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("rows", [1, 0])
def test_kl_needs_two_rows(rows: int) -> None:
    assert float(kl_to_standard_normal(random_rows(rows, 4, 0))) == 0

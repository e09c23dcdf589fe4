"""What every scoring model must do."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from model_behavior.benchmarks.baselines.matrix_factorisation import MatrixFactorisation, MatrixFactorisationConfig
from model_behavior.benchmarks.baselines.registry import SCORING_MODELS, load_scoring_model
from model_behavior.errors import ArtifactError, DataError, UsageError
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.dense_network_training import ScoringSchedule
from model_behavior.models.scoring.model_base import ModelBase
from model_behavior.models.scoring.outcomes import log_loss
from model_behavior.preprocessing.scoring_votes import select_scoring_votes, texts_of
from tests.models.scoring.scoring_votes import draw_votes, exchange_sides, table_for

VOTES = draw_votes()
NEW_VOTES = draw_votes(600, seed=9)
SHORT = ScoringSchedule(epochs=3)

Make = Callable[[], ModelBase]
MAKES: dict[str, Make] = {
    "dense-network": lambda: DenseNetworkModel(table_for(VOTES.models), DenseNetworkConfig(schedule=SHORT)),
    "dense-network id": lambda: DenseNetworkModel(config=DenseNetworkConfig(model_source="id", schedule=SHORT)),
    "matrix-factorisation": lambda: MatrixFactorisation(MatrixFactorisationConfig(schedule=ScoringSchedule(15))),
} | {name: make for name, make in SCORING_MODELS.items() if name not in ("dense-network", "matrix-factorisation")}


@pytest.fixture(scope="module", params=MAKES)
def make(request: pytest.FixtureRequest) -> Make:
    return MAKES[request.param]


@pytest.fixture(scope="module")
def fitted(make: Make) -> ModelBase:
    """Not to be changed."""
    model = make()
    model.fit(VOTES)
    return model


def test_every_registered_model_is_under_contract() -> None:
    assert {name.split()[0] for name in MAKES} == set(SCORING_MODELS)


def test_predictions_are_probabilities_better_than_chance(fitted: ModelBase) -> None:
    probabilities = fitted.predict(*texts_of(NEW_VOTES))
    assert probabilities.shape == (600, 4) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities > 0).all()
    shares = np.bincount(NEW_VOTES.outcome, minlength=4) / len(NEW_VOTES)
    same_for_all = np.broadcast_to(shares, (600, 4))
    if type(fitted).name != "longer-response":  # lengths tell little here
        assert log_loss(probabilities, NEW_VOTES.outcome).mean() < log_loss(same_for_all, NEW_VOTES.outcome).mean()


def test_exchanged_sides_exchange_the_probabilities(fitted: ModelBase) -> None:
    there = fitted.predict(*texts_of(NEW_VOTES))
    back = fitted.predict(*texts_of(exchange_sides(NEW_VOTES)))
    np.testing.assert_allclose(back, there[:, [1, 0, 2, 3]], atol=1e-5)


def test_no_votes_give_no_rows(fitted: ModelBase) -> None:
    assert fitted.predict([], [], []).shape == (0, 4)


def test_rating_orders_the_models_and_has_an_interval_around_it(fitted: ModelBase) -> None:
    ratings = fitted.rate()
    assert ratings.models == VOTES.models == fitted.models
    assert (ratings.low <= ratings.rating).all() and (ratings.rating <= ratings.high).all()
    assert np.corrcoef(ratings.rating, np.arange(8))[0, 1] > 0.9
    assert ratings.votes.sum() == 2 * len(VOTES)
    two = fitted.rate(["gnu-1", "ant-1"])
    np.testing.assert_allclose(two.rating, ratings.rating[[6, 0]])
    assert np.isfinite(fitted.rate(prompt=VOTES.prompts[0]).rating).all()


def test_state_goes_through_json_and_back_to_equal_predictions(fitted: ModelBase) -> None:
    state = fitted.get_state_dict()
    tensors = state.pop("tensors")
    assert all(isinstance(value, np.ndarray) for value in tensors.values())
    again = load_scoring_model({**json.loads(json.dumps(state)), "tensors": tensors})
    assert type(again) is type(fitted) and again.models == fitted.models
    np.testing.assert_array_equal(again.predict(*texts_of(NEW_VOTES)), fitted.predict(*texts_of(NEW_VOTES)))
    for before, after in ((fitted.rate(), again.rate()), (fitted.rate(prompt="a story"), again.rate(prompt="a story"))):
        np.testing.assert_array_equal(before.rating, after.rating)
        np.testing.assert_array_equal(before.low, after.low)


def test_states_of_others_are_refused(fitted: ModelBase) -> None:
    state = fitted.get_state_dict()
    for version, fix in ((99, "upgrade model-behavior"), (1, "train again"), (None, "train again")):
        with pytest.raises(ArtifactError, match=f"scoring state of '{fitted.name}': version {version}; .*Fix: {fix}$"):
            type(fitted).load_state_dict(state | {"state_version": version})
    with pytest.raises(ArtifactError, match="'another'"):
        type(fitted).load_state_dict(state | {"model": "another"})
    with pytest.raises(ArtifactError, match="incomplete"):
        type(fitted).load_state_dict(state | {"tensors": {}})


def test_the_same_votes_give_the_same_model(make: Make, fitted: ModelBase) -> None:
    again = make()
    again.fit(VOTES)
    np.testing.assert_array_equal(again.predict(*texts_of(NEW_VOTES)), fitted.predict(*texts_of(NEW_VOTES)))


def test_a_loaded_model_learns_again_what_a_new_one_learns_or_says_that_it_cannot(fitted: ModelBase) -> None:
    again = load_scoring_model(fitted.get_state_dict())
    if isinstance(again, DenseNetworkModel) and again.config.model_source == "behavior":
        with pytest.raises(UsageError, match=r"cannot be fitted again\. Fix: DenseNetworkModel\(table"):
            again.fit(VOTES)
    else:
        again.fit(VOTES)
    np.testing.assert_array_equal(again.predict(*texts_of(NEW_VOTES)), fitted.predict(*texts_of(NEW_VOTES)))


def test_unknown_names_get_the_nearest_known_ones(fitted: ModelBase) -> None:
    with pytest.raises(UsageError, match=r"unknown model 'gnu-2'.*gnu-1"):
        fitted.predict(["x"], ["gnu-2"], ["ant-1"])
    with pytest.raises(UsageError, match=r"unknown model 'foxx'.*fox-1"):
        fitted.rate(["foxx"])


def test_lists_of_different_lengths_are_refused(fitted: ModelBase) -> None:
    with pytest.raises(UsageError, match="2 prompts, 1 models_a, 1 models_b"):
        fitted.predict(["x", "y"], ["ant-1"], ["bee-1"])
    with pytest.raises(UsageError, match="not one text"):
        fitted.predict("x", ["ant-1"], ["bee-1"])


def test_before_fit_nothing_is_known(make: Make) -> None:
    model = make()
    assert model.models == ()
    with pytest.raises(UsageError, match="not fitted"):
        model.predict(["x"], ["ant-1"], ["bee-1"])
    with pytest.raises(UsageError, match="not fitted"):
        model.get_state_dict()


def test_no_votes_cannot_be_fitted(make: Make) -> None:
    with pytest.raises(DataError, match="no votes"):
        make().fit(select_scoring_votes(VOTES, np.zeros(0, np.int64)))


def test_an_outcome_that_never_occurs_stays_possible(make: Make) -> None:
    decided = select_scoring_votes(VOTES, np.flatnonzero(VOTES.outcome <= 1))
    model = make()
    model.fit(decided)
    probabilities = model.predict(*texts_of(decided))
    assert (probabilities[:, 2:] > 1e-7).all()
    assert (probabilities[:, 2:] < 0.05).all()


def test_style_is_asked_for_where_it_is_needed(make: Make) -> None:
    bare = draw_votes()
    stripped = type(bare)(*(getattr(bare, name) for name in list(bare.__dataclass_fields__)[:6]))
    model = make()
    if model.needs_style:
        with pytest.raises(DataError, match="with_style=True"):
            model.fit(stripped)
    else:
        model.fit(stripped)
        assert model.models == VOTES.models


def test_states_of_unknown_models_name_the_nearest() -> None:
    with pytest.raises(ArtifactError, match="bradley-terry"):
        load_scoring_model({"model": "bradley-tery"})

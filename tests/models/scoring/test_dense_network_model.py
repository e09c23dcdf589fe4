from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model_behavior.arrays import Float32Array
from model_behavior.data_models.scoring_types import ModelTable, ScoringVotes
from model_behavior.errors import ArtifactError, DataError, UsageError
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.models.scoring.dense_network import DenseNetwork, NetworkConfig, VoteBatch, VoteNetwork, batch_of
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.dense_network_training import (
    ScoringSchedule,
    cross_validate,
    is_clear_gain,
    train_network,
)
from model_behavior.models.scoring.foundation import lay_foundation
from model_behavior.models.scoring.outcomes import OutcomeConstants, log_loss
from model_behavior.models.scoring.prompt_features import PromptFeatures
from model_behavior.preprocessing.scoring_votes import select_scoring_votes, texts_of
from tests.models.scoring.scoring_votes import draw_votes, table_for

SHORT = DenseNetworkConfig(schedule=ScoringSchedule(epochs=8))
NAMES = draw_votes(10).models


@pytest.fixture(scope="module")
def by_topic() -> DenseNetworkModel:
    model = DenseNetworkModel(table_for(NAMES), SHORT)
    model.fit(draw_votes(6000, by_topic=2.0))
    return model


def without_model(votes: ScoringVotes, name: str) -> ScoringVotes:
    place = votes.models.index(name)
    return select_scoring_votes(votes, np.flatnonzero((votes.model_a != place) & (votes.model_b != place)))


def test_topics_that_matter_are_learned(by_topic: DenseNetworkModel) -> None:
    ratings, new = BradleyTerry(), draw_votes(2000, seed=7, by_topic=2.0)
    ratings.fit(draw_votes(6000, by_topic=2.0))
    losses = [log_loss(model.predict(*texts_of(new)), new.outcome).mean() for model in (by_topic, ratings)]
    assert losses[0] < losses[1] - 0.03
    odd = np.arange(8) % 2 == 1
    lead = [
        float(np.ptp([by_topic.rate(prompt=prompt).rating[side].mean() for side in (odd, ~odd)]))
        for prompt in (
            "prove the theorem about integer sequence number",
            "tell a story about the sad dragon and castle",
        )
    ]
    assert lead[0] > lead[1]


def test_where_prompts_do_not_matter_the_ratings_stand() -> None:
    train, new = draw_votes(1200, n_prompts=30), draw_votes(3000, seed=8)
    network, ratings = DenseNetworkModel(table_for(NAMES), SHORT), BradleyTerry()
    network.fit(train)
    ratings.fit(train)
    losses = [log_loss(model.predict(*texts_of(new)), new.outcome).mean() for model in (network, ratings)]
    assert losses[0] < losses[1] + 0.003


def test_history_begins_before_training_and_the_best_epoch_is_kept(by_topic: DenseNetworkModel) -> None:
    assert [log.epoch for log in by_topic.history] == list(range(9))
    assert min(log.validation_loss for log in by_topic.history) < by_topic.history[0].validation_loss


def test_a_model_without_votes_is_placed_by_its_embedding() -> None:
    votes = draw_votes(6000)
    table = table_for(NAMES)
    for name, least, most in (("hen-1", 0.4, 3.0), ("ant-1", -3.0, -0.4)):
        model = DenseNetworkModel(table, SHORT)
        model.fit(without_model(votes, name))
        ratings = model.rate([name])
        assert least < ratings.rating[0] < most
        assert ratings.votes[0] == 0 and ratings.low[0] < ratings.rating[0] < ratings.high[0]
        widths = model.rate().high - model.rate().low
        assert widths[NAMES.index(name)] == widths.max()


def test_enrolled_models_can_be_replaced_and_removed_but_voted_ones_stay() -> None:
    votes, table = draw_votes(2000), table_for(NAMES)
    model = DenseNetworkModel(table, SHORT)
    model.fit(without_model(votes, "hen-1"))
    before = model.rate(["ant-1", "hen-1"])
    moved = ModelTable(("ant-1", "hen-1"), table.embedding[[7, 0]], table.count[:2], table.spread[:2])
    model.enrol(moved)
    after = model.rate(["ant-1", "hen-1"])
    assert after.rating[0] == before.rating[0]
    assert after.rating[1] < before.rating[1] - 0.5
    model.remove(["hen-1"])
    assert model.models == NAMES[:7]
    with pytest.raises(UsageError, match="'ant-1' was voted on"):
        model.remove(["ant-1"])
    with pytest.raises(UsageError, match=r"shape \(1, 2\).*\[n_models, 6\]"):
        model.enrol(ModelTable(("new",), np.zeros((1, 2), np.float32), table.count[:1], table.spread[:1]))


def test_averaging_over_what_is_not_known_gives_less_extreme_predictions() -> None:
    votes = without_model(draw_votes(2000), "hen-1")
    model = DenseNetworkModel(table_for(NAMES), SHORT)
    model.fit(votes)
    call, known = (["x"], ["hen-1"], ["ant-1"]), (["x"], ["gnu-1"], ["ant-1"])
    state = model.get_state_dict()
    state["tensors"]["board.variance"][:] = 0
    sure = DenseNetworkModel.load_state_dict(state)
    assert sure.predict(*call)[0, 0] - 0.2 < model.predict(*call)[0, 0] < sure.predict(*call)[0, 0] - 1e-3
    np.testing.assert_array_equal(model.predict(*known), sure.predict(*known))


def test_an_enrolled_model_takes_over_a_share_of_what_prompts_do() -> None:
    votes = without_model(draw_votes(1000, by_topic=3.0), "hen-1")
    spread = []
    for share in (0.0, 0.5, 1.0):
        schedule = ScoringSchedule(epochs=4, folds=2)
        model = DenseNetworkModel(table_for(NAMES), replace(SHORT, carry_over=share, schedule=schedule))
        model.fit(votes)
        scores = [model.rate(["hen-1"], prompt=prompt).rating[0] for prompt in votes.prompts[:20]]
        spread.append(float(np.ptp(scores)))
    assert spread[0] == 0 and spread[2] > 0.05
    assert spread[1] == pytest.approx(spread[2] / 2, rel=1e-4)


def test_votes_are_held_out_with_their_prompts_and_predicted_by_the_others() -> None:
    votes = draw_votes(300, n_prompts=12)
    learned: list[set[str]] = []

    def build(some: ScoringVotes) -> VoteNetwork:
        learned.append({some.prompts[index] for index in some.prompt_index})
        return lay_foundation(some, None, features.dim, SHORT).network

    features = PromptFeatures()
    features.fit(votes.prompts)
    schedule = ScoringSchedule(epochs=2, folds=4)
    held = cross_validate(build, votes, batch_of(votes, features), schedule)
    assert sorted(len(some) for some in learned) == [9, 9, 9, 9]
    assert set.intersection(*learned) == set() and len(held.outcome) == len(votes)
    assert sorted(np.bincount(held.prompt)) == sorted(np.bincount(votes.prompt_index))
    losses = [log.validation_loss for log in held.history]
    by_ratings = log_loss(predict_by_ratings(votes, learned), held.outcome).mean()
    assert len(losses) == 3 and losses[0] == pytest.approx(by_ratings, abs=1e-5)
    few = cross_validate(build, votes, batch_of(votes, features), replace(schedule, enough_votes=100))
    assert len(votes) / 4 < len(few.outcome) < len(votes)


def test_an_epoch_has_no_more_votes_than_it_may() -> None:
    votes = draw_votes(300, n_prompts=12)
    features = PromptFeatures()
    features.fit(votes.prompts)
    batch = batch_of(votes, features)
    seen: list[int] = []
    network = lay_foundation(votes, None, features.dim, SHORT).network
    network.register_forward_hook(lambda module, arguments, result: seen.append(len(arguments[0].outcome)))
    train_network(network, batch, ScoringSchedule(epochs=2, batch_size=32, epoch_votes=100), 2)
    assert seen == [32, 32, 32, 4] * 2
    assert batch.take(torch.arange(3)).prompt.shape == (3, features.dim)


def predict_by_ratings(votes: ScoringVotes, learned: list[set[str]]) -> Float32Array:
    """Probabilities of all votes, fold after fold, by ratings that were fitted to the prompts of the other folds."""
    parts = []
    for some in learned:
        own = np.array([votes.prompts[index] in some for index in votes.prompt_index])
        ratings = BradleyTerry()
        ratings.fit(select_scoring_votes(votes, np.flatnonzero(own)))
        parts.append(ratings.predict(*texts_of(select_scoring_votes(votes, np.flatnonzero(~own)))))
    return np.concatenate(parts)


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(UsageError, match="'behaviour': unknown"):
        DenseNetworkModel(config=DenseNetworkConfig(model_source="behaviour"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="needs a table"):
        DenseNetworkModel()
    with pytest.raises(DataError, match=r"no embedding of 'hen-1' \(1 of 8"):
        DenseNetworkModel(table_for(NAMES[:7]), SHORT).fit(draw_votes(100))
    model = DenseNetworkModel(config=replace(SHORT, model_source="id"))
    model.fit(draw_votes(100))
    with pytest.raises(UsageError, match="cannot enrol"):
        model.enrol(table_for(NAMES))


def test_loss_and_scores_by_plain_loops() -> None:
    rng = np.random.default_rng(0)
    offset, behavior = rng.normal(size=3), rng.normal(size=(3, 2)).astype(np.float32)
    config = NetworkConfig(hidden=4, margin=0.5, margin_weight=2.0)
    network = DenseNetwork(5, offset, behavior, OutcomeConstants(0.6, 0.1, -1.0, -2.0), config)
    for parameter in network.parameters():
        parameter.data = torch.tensor(rng.normal(size=parameter.shape), dtype=torch.float32)
    prompt = rng.normal(size=(4, 5)).astype(np.float32)
    a, b, outcome = np.array([0, 1, 2, 0]), np.array([1, 2, 0, 2]), np.array([0, 1, 2, 3])
    columns = [torch.from_numpy(column) for column in (a, b, outcome)]
    batch = VoteBatch(torch.from_numpy(prompt), columns[0], columns[1], columns[2], torch.arange(4), 4)
    p = network.arrays()
    total = 0.0
    for x, i, j, happened in zip(prompt, a, b, outcome, strict=True):
        wide = np.concatenate([x, np.tanh(p["hidden.weight"] @ x + p["hidden.bias"])])
        score = [
            offset[m] + wide @ p["interaction"] @ behavior[m] + p["models"][m, 0] + p["models"][m, 1:] @ wide
            for m in (i, j)
        ]
        levels = p["levels"] + wide @ p["shift"]
        both = sum(score)
        logits = [*score, p["slopes"][0] * both + levels[0], -p["slopes"][1] * both + levels[1]]
        total -= logits[happened] - np.log(sum(np.exp(logits)))
        if happened <= 1:
            lead = (score[0] - score[1]) * (1 if happened == 0 else -1)
            total += 2.0 * max(0.0, 0.5 - lead)
    assert float(network.loss(batch).detach()) == pytest.approx(total / 4, rel=1e-4)


def test_a_gain_is_clear_above_its_standard_error_over_prompts() -> None:
    prompt = np.repeat(np.arange(20), 10)
    steady = np.full(200, 0.01) + np.tile([0.005, -0.005], 100)
    assert is_clear_gain(steady, prompt)
    assert not is_clear_gain(-steady, prompt)
    # One prompt that gains much, nineteen that lose a little.
    assert not is_clear_gain(np.where(prompt == 0, 1.0, -0.04), prompt)
    assert not is_clear_gain(np.ones(5), np.zeros(5, int))


def test_prompt_features_are_centred_scaled_and_come_back() -> None:
    prompts = list(draw_votes(10).prompts)
    features = PromptFeatures()
    features.fit(prompts)
    vectors = features.transform(prompts)
    np.testing.assert_allclose(vectors.mean(axis=0), 0, atol=1e-5)
    assert np.square(vectors).sum(axis=1).mean() == pytest.approx(1, rel=0.02)
    same, other = vectors[0] @ vectors[3], vectors[0] @ vectors[1]
    assert same > other
    state = features.get_state_dict()
    again = PromptFeatures.load_state_dict(state, features.config)
    np.testing.assert_array_equal(again.transform(["a new prompt", ""]), features.transform(["a new prompt", ""]))
    state["encoders"][0]["fingerprint"] = "other"
    with pytest.raises(ArtifactError, match="text encoder 'style' is not the one"):
        PromptFeatures.load_state_dict(state, features.config)
    assert features.transform([]).shape == (0, features.dim)


def test_one_prompt_is_enough() -> None:
    model = DenseNetworkModel(table_for(NAMES), SHORT)
    model.fit(draw_votes(50, n_prompts=1))
    assert np.isfinite(model.predict(["y"], ["ant-1"], ["bee-1"])).all()

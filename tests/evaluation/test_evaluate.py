"""A saved artifact measured on votes: on new prompts only, and by the same figures as anywhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from model_behavior.artifact import Artifact
from model_behavior.catalog.enrolment import remove
from model_behavior.data.arena import build_arena
from model_behavior.data.filters import select_votes
from model_behavior.data.split import hash_prompts
from model_behavior.data_models.scoring_types import ModelTable
from model_behavior.data_models.votes import SplitVotes, TrainingData, ValidationSplit
from model_behavior.errors import DataError, UsageError
from model_behavior.evaluation.evaluate import Evaluation, EvaluationConfig, evaluate
from model_behavior.evaluation.evaluated_scorer import BRADLEY_TERRY, SCORER
from model_behavior.evaluation.measured_votes import prepare_baselines, select_measured
from model_behavior.evaluation.stage2 import measure_stage2
from model_behavior.models.behavior.text.registry import TextConfig
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.dense_network_training import ScoringSchedule
from model_behavior.pipeline import TrainingConfig, train_encoder
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.scoring_votes import to_scoring_votes

pytestmark = pytest.mark.usefixtures("few_replicates")

SPLIT = ValidationSplit(0.3, seed=0)
NEW_LLM = "amber-xl"


@cache
def votes() -> TrainingData:
    return build_arena(seed=3, n_prompts=60).votes


@cache
def sides() -> tuple[TrainingData, SplitVotes]:
    encoder = trained().encoder
    prepared = BehaviorEmbeddingPreprocessor(encoder.runtime.cache, encoder.config.preprocessing).preprocess(
        votes(), SPLIT
    )
    return prepared.data, prepared.split


@cache
def trained() -> Artifact:
    return train_encoder(votes(), TrainingConfig(TextConfig(("style",)), split=SPLIT, epochs=2))


@cache
def with_scorer() -> Artifact:
    """The scorer knows all LLMs, one of them by its embedding alone."""
    loaded = trained()
    data, split = sides()
    models = loaded.models
    chosen = np.array([NEW_LLM not in _names(data, vote) for vote in split.train])
    table = ModelTable(models.names, models.mean, models.count, models.spread)
    scorer = DenseNetworkModel(table, DenseNetworkConfig(schedule=ScoringSchedule(epochs=4)))
    scorer.fit(to_scoring_votes(data, split.train[chosen]))
    return replace(loaded, scorer=scorer)


@cache
def evaluated() -> Evaluation:
    return evaluate(with_scorer(), votes())


def _names(data: TrainingData, vote: int) -> set[str]:
    return {data.pairs.models[data.pairs.model_index[side[vote]]] for side in (data.pair_a, data.pair_b)}


def test_what_is_measured_is_the_validation_side_of_its_own_training() -> None:
    data, split = sides()
    measured = select_measured(trained(), votes(), 0)
    np.testing.assert_array_equal(measured.new, split.validation)
    np.testing.assert_array_equal(measured.seen, split.train)
    counts = evaluated().votes
    assert (counts.read, counts.used, counts.new_prompt_votes) == (len(votes()), len(data), len(split.validation))
    assert counts.new_prompts + counts.seen_prompts == 60 and counts.new_prompts == 18


def test_the_figures_are_those_of_training() -> None:
    best = max(trained().encoder.history, key=lambda log: log.triplet_accuracy)
    triplet = evaluated().stage1.triplet
    assert triplet["all"].value == pytest.approx(best.triplet_accuracy)
    assert evaluated().stage1.balanced.value == pytest.approx(best.balanced_accuracy)
    assert triplet["identity"].value == pytest.approx(best.accuracy_by_kind["identity"])
    assert triplet["all"].low < triplet["all"].value < triplet["all"].high


def test_a_file_of_the_new_prompts_alone_gives_the_same_figures() -> None:
    data, split = sides()
    whole, alone = evaluated(), evaluate(with_scorer(), select_votes(data, split.validation))
    for name in ("triplet", "balanced", "identification", "family", "triplet_length_control", "readout"):
        assert getattr(alone.stage1, name) == getattr(whole.stage1, name), name
    for name, figure in whole.stage1.collapse.items():  # sums over an array of another layout
        assert alone.stage1.collapse[name].value == pytest.approx(figure.value, rel=1e-5)
    assert alone.stage2 is not None and whole.stage2 is not None
    assert alone.stage2["new prompt, known LLM"] == whole.stage2["new prompt, known LLM"]
    assert alone.votes.seen_prompts == 0


def test_baselines_are_measured_on_other_prompts_than_they_are_fitted_to() -> None:
    data, split = sides()
    alone = select_votes(data, split.validation)
    for given, n_measured in ((votes(), len(split.validation)), (alone, None)):
        prepared = prepare_baselines(select_measured(trained(), given, 0), 0)
        prompt = prepared.data.pairs.prompt_index[prepared.data.pair_a]
        fits, measures = (set(prompt[side].tolist()) for side in (prepared.split.train, prepared.split.validation))
        assert fits and measures and not fits & measures
        assert n_measured is None or len(prepared.split.validation) == n_measured
    assert evaluated().baselines["TF-IDF, untrained"].triplet["all"].n == evaluated().stage1.triplet["all"].n


def test_the_scorer_is_measured_where_it_cannot_have_learned() -> None:
    stage2, loaded = evaluated().stage2, with_scorer()
    assert stage2 is not None and loaded.scorer is not None
    assert list(stage2) == ["new prompt, known LLM", "new prompt, new LLM", "seen prompt, new LLM"]
    data, split = sides()
    with_new = np.array([NEW_LLM in _names(data, vote) for vote in range(len(data))])
    is_new_prompt = np.isin(np.arange(len(data)), split.validation)
    for label, chosen in (
        ("new prompt, known LLM", is_new_prompt & ~with_new),
        ("new prompt, new LLM", is_new_prompt & with_new),
        ("seen prompt, new LLM", ~is_new_prompt & with_new),
    ):
        assert stage2[label].methods[SCORER].figures.log_loss.n == int(chosen.sum())
    assert BRADLEY_TERRY not in stage2["new prompt, new LLM"].methods
    known = to_scoring_votes(data, np.flatnonzero(is_new_prompt & ~with_new))
    names = known.models
    sides_of = [[names[i] for i in side] for side in (known.model_a, known.model_b)]
    prompts = [known.prompts[i] for i in known.prompt_index]
    for name, model in ((SCORER, loaded.scorer), (BRADLEY_TERRY, loaded.scorer.ratings)):
        expected = measure_stage2(model.predict(prompts, *sides_of), known)
        assert stage2["new prompt, known LLM"].methods[name].figures == expected
    assert stage2["new prompt, known LLM"].methods[SCORER].figures.accuracy.value > 0.6


def test_the_ratings_of_a_scorer_are_its_own() -> None:
    scorer = with_scorer().scorer
    assert scorer is not None
    ratings = scorer.ratings
    assert ratings.models == scorer.voted_models
    np.testing.assert_array_equal(ratings.rate().rating, scorer.rate(scorer.voted_models).rating)


def test_models_without_an_embedding_are_named_and_left_out_of_identification() -> None:
    loaded = trained()
    fewer = loaded.with_catalog(remove(loaded.catalog, [NEW_LLM]))
    measured = evaluate(fewer, votes())
    assert measured.votes.unknown_models == (NEW_LLM,) and measured.stage2 is None
    n_models = len(loaded.models)
    assert measured.stage1.identification_chance == pytest.approx(1 / (n_models - 1))
    assert measured.stage1.identification[8].n == (n_models - 1) * 20
    assert evaluated().stage1.identification[8].n == n_models * 20


def test_the_parts_are_probed() -> None:
    parts = evaluated().stage1.parts
    assert list(parts) == ["whole", "quality", "identity"]
    for part in parts.values():
        assert part.rating_r2 is not None and part.rating_r2.n == 18
        assert part.identification[8].value > evaluated().stage1.identification_chance


def test_the_result_is_json_with_value_interval_and_n() -> None:
    value = json.loads(json.dumps(evaluated().to_json()))
    assert sorted(value) == ["baselines", "stage1", "stage2", "votes"]
    assert sorted(value["stage1"]["triplet"]["all"]) == ["high", "low", "n", "value"]
    assert sorted(value["stage1"]["collapse"]) == ["effective_rank", "mean_distance", "model_share", "prompt_share"]
    assert value["stage2"]["new prompt, known LLM"]["longer_response"]["n"] > 0


def test_another_seed_draws_other_triplets() -> None:
    other = evaluate(trained(), votes(), EvaluationConfig(seed=1))
    assert other.stage1.triplet["all"] != evaluated().stage1.triplet["all"]
    assert other.stage1.triplet["all"].value == pytest.approx(evaluated().stage1.triplet["all"].value, abs=0.08)


def test_nothing_is_measured_that_cannot_be_honest() -> None:
    data, split = sides()
    with pytest.raises(DataError, match="all .* votes are on prompts that the encoder was trained on"):
        evaluate(trained(), select_votes(data, split.train))
    with pytest.raises(UsageError, match="does not record which prompts"):
        evaluate(replace(trained(), training=None), votes())


def test_prompts_equal_once_normalised_have_one_key() -> None:
    keys = hash_prompts(["Write  a\nPoem", "write a poem", "write a poem!"])
    assert keys.dtype == np.uint64 and keys[0] == keys[1] != keys[2]

"""The catalog and the scorer with very many models, made by perturbing those that there are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from model_behavior.artifact import model_table
from model_behavior.catalog import Catalog, ModelEmbeddings
from model_behavior.catalog.enrolment import merge_catalogs
from model_behavior.catalog.neighbours import find_neighbours
from model_behavior.catalog.samples import empty_samples
from model_behavior.data_models.votes import TrainingData
from model_behavior.evaluation.speed.clock import Timing, clock
from model_behavior.evaluation.speed.stages import WholeStage
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.scoring_votes import to_scoring_votes

_QUESTIONS = 200
_ADDED = 20
_NOISE = 0.5  # of the standard deviation between models


@dataclass(frozen=True)
class ManyModels:
    """With so many models in the catalog.

    Attributes:
        n_models: in it.
        neighbour_seconds: of each question for the nearest models, style differences included; the first one, which
            makes what the others use, is apart.
        first_question: seconds of that one.
        added: one model added to the catalog, by model.
        enrolled: by the scorer, all at once.
        rated: ratings with intervals of all models.
        rated_on_prompt: their scores on one prompt.
    """

    n_models: int
    neighbour_seconds: tuple[float, ...]
    first_question: float
    added: Timing
    enrolled: Timing
    rated: Timing
    rated_on_prompt: Timing


def measure_many_models(stage: WholeStage, votes: TrainingData, n_models: int, cache: ContentCache) -> ManyModels:
    """Enlarges the catalog of a trained stage 1 and asks it.

    Args:
        stage: trained on `votes`.
        votes: what the scorer is fitted to.
        n_models: in the enlarged catalog.
        cache: of the prompts' features.
    """
    rng = np.random.default_rng(0)
    catalog = _enlarge(stage.catalog, n_models, rng)
    names = catalog.models.names
    asked = [names[row] for row in rng.integers(0, n_models, _QUESTIONS + 1)]
    questions = [clock(partial(find_neighbours, catalog, name), 1).seconds[0] for name in asked]
    new = Catalog.of_embeddings(catalog.models.select([0]))
    new = Catalog.of_embeddings(replace(new.models, names=("new",)))
    added = clock(lambda: [merge_catalogs(catalog, new) for _ in range(_ADDED)], _ADDED)
    training = to_scoring_votes(votes)
    scorer = DenseNetworkModel(model_table(stage.encoder, stage.catalog, training.models), cache=cache)
    scorer.fit(training)
    table = model_table(stage.encoder, catalog, training.models)
    enrolled = clock(lambda: scorer.enrol(table), n_models)
    prompt = str(votes.pairs.prompts[0].as_py())
    return ManyModels(
        n_models=n_models,
        neighbour_seconds=tuple(questions[1:]),
        first_question=questions[0],
        added=added,
        enrolled=enrolled,
        rated=clock(scorer.rate, n_models),
        rated_on_prompt=clock(lambda: scorer.rate(prompt=prompt), n_models),
    )


def _enlarge(catalog: Catalog, n_models: int, rng: np.random.Generator) -> Catalog:
    """Copies of the models at random, their embeddings and style profiles moved by noise."""
    models, samples = catalog.models, catalog.samples
    rows = rng.integers(0, len(models), n_models)
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    names = tuple(f"{models.names[row]} {place:06d}" for place, row in enumerate(rows.tolist()))

    def move(values: np.ndarray) -> np.ndarray:
        noise = _NOISE * values.std(axis=0) * rng.standard_normal((n_models, values.shape[1]))
        moved: np.ndarray = (values[rows] + noise).astype(np.float32)
        return moved

    return Catalog(
        ModelEmbeddings(names, move(models.mean), models.count[rows], models.spread[rows]),
        replace(
            empty_samples(names, models.mean.shape[1]),
            style_mean=move(samples.style_mean),
            style_deviation=samples.style_deviation[rows],
            style_count=samples.style_count[rows],
        ),
    )

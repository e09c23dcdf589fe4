"""Neighbours: the models most similar to a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model_behavior.catalog.embeddings import ModelEmbeddings
from model_behavior.catalog.enrolment import Catalog
from model_behavior.catalog.samples import SharedPrompt, pair_answers
from model_behavior.catalog.stored_rows import Exemplar
from model_behavior.catalog.style_drivers import StyleDriver, average_profile, find_drivers, profile_of
from model_behavior.errors import UsageError
from model_behavior.names import find_model


@dataclass(frozen=True)
class Neighbour:
    """One model near another.

    Attributes:
        model: name of the neighbour.
        distance: cosine distance of the two embeddings, 0 (same direction) to 2.
        responses: number of responses behind its embedding.
        drivers: differences in style of the given model from this neighbour.
        exemplars: typical responses of the neighbour.
        shared: responses of the given model (a) and the neighbour (b) to the same prompts.
    """

    model: str
    distance: float
    responses: int
    drivers: tuple[StyleDriver, ...]
    exemplars: tuple[Exemplar, ...]
    shared: tuple[SharedPrompt, ...]


@dataclass(frozen=True)
class Neighbourhood:
    """A model, what sets it apart from the average of all others, and those nearest to it, nearest first."""

    model: str
    responses: int
    drivers: tuple[StyleDriver, ...]
    exemplars: tuple[Exemplar, ...]
    neighbours: tuple[Neighbour, ...]


def nearest_rows(models: ModelEmbeddings, row: int, n: int) -> list[tuple[int, float]]:
    """The `n` other rows nearest to a row, or all there are, each with its cosine distance; nearest first."""
    distance = models.cosine_distances(row)
    distance[row] = np.inf
    nearest = np.argsort(distance, kind="stable")[: min(n, len(models) - 1)]
    return [(int(other), float(distance[other])) for other in nearest]


def find_neighbours(catalog: Catalog, name: str, n: int = 5, n_drivers: int = 5) -> Neighbourhood:
    """Finds the nearest models to a model.

    Args:
        catalog: catalog of the models.
        name: name of a model in it.
        n: number of neighbours, at least 1.
        n_drivers: largest number of differences in style for each.

    Raises:
        UsageError: the name is unknown, or `n` is below 1.
    """
    if n < 1:
        raise UsageError(f"n={n}: at least 1 neighbour is needed")
    models, samples = catalog.models, catalog.samples
    own = find_model(models.names, name)
    described = samples.style_count > 1

    def compare(other: int) -> tuple[StyleDriver, ...]:
        both = described[own] and described[other]
        return find_drivers(profile_of(samples, own), profile_of(samples, other), n_drivers) if both else ()

    with_others = described[own] and described.sum() > 1
    return Neighbourhood(
        model=name,
        responses=int(models.count[own]),
        drivers=find_drivers(profile_of(samples, own), average_profile(samples, own), n_drivers) if with_others else (),
        exemplars=samples.exemplars[own],
        neighbours=tuple(
            Neighbour(
                models.names[other],
                distance,
                int(models.count[other]),
                compare(other),
                samples.exemplars[other],
                pair_answers(samples, own, other),
            )
            for other, distance in nearest_rows(models, own, n)
        ),
    )

"""How sure an artifact is of its models, and what more responses would buy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model_behavior.artifact.folder import Contents
from model_behavior.catalog.enrolment import Catalog
from model_behavior.catalog.identification import fit_identifier
from model_behavior.catalog.placement import Placement, Population, effective_responses, fit_population
from model_behavior.errors import DataError, UsageError
from model_behavior.names import find_model

PLANNED_SIZES = (8, 32, 128)
_SAME_PROMPT = 1.0  # several responses to one prompt count as one


@dataclass(frozen=True)
class RatingCertainty:
    """Of a rating that is read from responses, on the scale of `rank`.

    Attributes:
        rating: the rating.
        half_width: of its 95 % interval.
        floor: half width with endlessly many responses.
        wanted: the half width that was asked for, or a tenth above the floor.
        needed: about how many more responses it takes; None where no number does.
        compared: responses to prompts that models with votes have answered, too.
    """

    rating: float
    half_width: float
    floor: float
    wanted: float
    needed: int | None
    compared: int


@dataclass(frozen=True)
class PlannedSize:
    """What a number of responses, altogether, is expected to buy; None where the artifact cannot tell.

    Attributes:
        radius: of the region that holds the model's embedding with a probability of 95 %.
        half_width: of the rating's 95 % interval.
        recognition: share of models that are the likeliest of the known ones from that many responses.
    """

    radius: float | None
    half_width: float | None
    recognition: float | None


@dataclass(frozen=True)
class ModelCertainty:
    """Of one model.

    Attributes:
        model: its name.
        responses: that its embedding is the mean of.
        radius: by probability, of the region around the shrunk embedding; None without enough other families.
        rating: None without a scorer, or for a model with votes.
        planned: by number of responses.
    """

    model: str
    responses: int
    radius: Mapping[float, float] | None
    rating: RatingCertainty | None
    planned: Mapping[int, PlannedSize]


def measure_certainty(
    artifact: Contents, models: Sequence[str], half_width: float | None = None
) -> tuple[ModelCertainty, ...]:
    """How sure the artifact is of some of its models.

    Args:
        artifact: with its catalog.
        models: names in it.
        half_width: wanted, of the rating's 95 % interval; a tenth above what is possible by default.

    Raises:
        UsageError: an unknown model, or a half width that is not above 0.
    """
    check_half_width(half_width)
    catalog = artifact.catalog
    population, recognition = _population(catalog), _recognition(catalog)
    found = []
    for name in models:
        row = find_model(catalog.models.names, name)
        count = int(catalog.models.count[row])
        placement = None if population is None else place_model(population, catalog, row)
        precision = None if artifact.scorer is None else artifact.scorer.precision(name, count)
        rating = None
        if precision is not None:
            wanted = precision.within_reach if half_width is None else half_width
            needed = precision.responses_needed(wanted)
            compared = round(precision.shared * count)
            rating = RatingCertainty(precision.rating, precision.half_width, precision.floor, wanted, needed, compared)
        planned = {
            k: PlannedSize(
                radius=None if population is None or placement is None else population.radius_after(placement, k),
                half_width=None if precision is None else precision.half_width_after(k),
                recognition=recognition.get(k),
            )
            for k in PLANNED_SIZES
        }
        found.append(ModelCertainty(name, count, None if placement is None else placement.radius, rating, planned))
    return tuple(found)


def check_half_width(half_width: float | None) -> None:
    """Refuses a half width that cannot be meant, before any work.

    Raises:
        UsageError: not above 0, or not finite.
    """
    if half_width is not None and not 0 < half_width < math.inf:
        raise UsageError(f"half_width={half_width}: must be above 0, such as 0.5")


def place_model(population: Population, catalog: Catalog, row: int) -> Placement | None:
    """Where a model of the catalog lies, from its sampled responses; None where there are none."""
    rows = catalog.samples.embedded.rows_of(row)
    vectors, prompts = catalog.samples.embedded.vectors[rows], catalog.samples.embedded.prompt_keys[rows]
    if not len(vectors):
        return None
    return population.place(vectors, effective_responses(prompts, _SAME_PROMPT))


def _population(catalog: Catalog) -> Population | None:
    try:
        return fit_population(catalog)
    except DataError:  # too few models; the rating can be told even so
        return None


def _recognition(catalog: Catalog) -> Mapping[int, float]:
    try:
        return fit_identifier(catalog).recognition
    except DataError:
        return {}

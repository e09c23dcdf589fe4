"""How certain the embeddings and ratings of an artifact are, and how much more responses would help."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model_behavior.artifact.folder import Contents
from model_behavior.catalog.enrolment import Catalog
from model_behavior.catalog.identification import fit_identifier
from model_behavior.catalog.placement import Placement, Population, effective_responses, fit_population
from model_behavior.catalog.samples import select_samples
from model_behavior.data.split import hash_text
from model_behavior.data_models.scoring_types import RatingScale, ScaleName
from model_behavior.errors import DataError, UsageError
from model_behavior.models.scoring.rating_precision import RatingPrecision
from model_behavior.names import find_model

PLANNED_SIZES = (8, 32, 128)
_MOST_MODELS, _MODELS_READ = 1000, 64  # of larger catalogs, the models that tell how models lie
_SAME_PROMPT = 1.0  # several responses to one prompt count as one


@dataclass(frozen=True)
class RatingCertainty:
    """Certainty of a rating that is predicted from responses; all on one scale, Elo or log-odds.

    Attributes:
        rating: predicted rating.
        half_width: half-width of its 95 % interval.
        floor: limit of the half-width as responses grow without bound.
        wanted: target half-width; 10 % above the floor if none was given.
        needed: approximate number of further responses to reach the target; None if no number suffices.
        compared: number of responses to prompts that models with votes also answered.
        beyond: 1 where the responses look better than those of every known model, -1 where they look worse, else 0.
    """

    rating: float
    half_width: float
    floor: float
    wanted: float
    needed: int | None
    compared: int
    beyond: int = 0


@dataclass(frozen=True)
class PlannedSize:
    """Expected certainty at a total number of responses; None where the artifact cannot predict it.

    Attributes:
        radius: radius of the 95 % region of the model's embedding.
        half_width: half-width of the rating's 95 % interval.
        recognition: share of models that `identify` ranks first from that many of their responses.
    """

    radius: float | None
    half_width: float | None
    recognition: float | None


@dataclass(frozen=True)
class ModelCertainty:
    """Certainty of one model.

    Attributes:
        model: name of the model.
        responses: number of responses behind its embedding.
        radius: radius of the region around the shrunk embedding, by probability; None with too few other families.
        rating: certainty of its rating; None without a scorer, or for a model with votes.
        planned: expected certainty by total number of responses.
    """

    model: str
    responses: int
    radius: Mapping[float, float] | None
    rating: RatingCertainty | None
    planned: Mapping[int, PlannedSize]


def measure_certainty(
    artifact: Contents, models: Sequence[str], half_width: float | None = None, scale: ScaleName = "elo"
) -> tuple[ModelCertainty, ...]:
    """Measures the certainty of some models of an artifact.

    Args:
        artifact: artifact with its catalog.
        models: names of models in it.
        half_width: target half-width of the rating's 95 % interval; by default 10 % above the smallest possible.
        scale: scale of ratings and half-widths.

    Raises:
        UsageError: a model is unknown, or the half-width is not above 0.
    """
    check_half_width(half_width)
    catalog = artifact.catalog
    population, recognition = _population(catalog), _recognition(catalog)
    shown = RatingScale() if artifact.scorer is None else artifact.scorer.scale(scale)
    found = []
    for name in models:
        row = find_model(catalog.models.names, name)
        count = int(catalog.models.count[row])
        placement = None if population is None else place_model(population, catalog, row)
        precision = None if artifact.scorer is None else artifact.scorer.precision(name, count)
        rating = None if precision is None else _describe(precision, half_width, shown)
        planned = {
            k: PlannedSize(
                radius=None if population is None or placement is None else population.radius_after(placement, k),
                half_width=None if precision is None else shown.unit * precision.half_width_after(k),
                recognition=recognition.get(k),
            )
            for k in PLANNED_SIZES
        }
        found.append(ModelCertainty(name, count, None if placement is None else placement.radius, rating, planned))
    return tuple(found)


def _describe(precision: RatingPrecision, half_width: float | None, scale: RatingScale) -> RatingCertainty:
    """The certainty of one rating; the target is on the scale, too."""
    wanted = precision.within_reach if half_width is None else half_width / scale.unit
    return RatingCertainty(
        rating=scale.origin + scale.unit * precision.rating,
        half_width=scale.unit * precision.half_width,
        floor=scale.unit * precision.floor,
        wanted=scale.unit * wanted,
        needed=precision.responses_needed(wanted),
        compared=round(precision.shared * precision.responses),
        beyond=precision.beyond,
    )


def check_half_width(half_width: float | None) -> None:
    """Refuses an invalid half-width before any work.

    Raises:
        UsageError: the half-width is not above 0, or not finite.
    """
    if half_width is not None and not 0 < half_width < math.inf:
        raise UsageError(f"half_width={half_width}: must be above 0, such as 50 Elo")


def place_model(population: Population, catalog: Catalog, row: int) -> Placement | None:
    """Estimates the place of a model of the catalog from its sampled responses; None if it has none."""
    rows = catalog.samples.embedded.rows_of(row)
    vectors, prompts = catalog.samples.embedded.vectors[rows], catalog.samples.embedded.prompt_keys[rows]
    if not len(vectors):
        return None
    return population.place(vectors, effective_responses(prompts, _SAME_PROMPT))


def _population(catalog: Catalog) -> Population | None:
    try:
        return fit_population(_sample_of(catalog))
    except DataError:  # too few models for regions; ratings do not need them
        return None


def _sample_of(catalog: Catalog) -> Catalog:
    """The models with the smallest hashes of their names, where there are more than all need to be read of."""
    names = catalog.models.names
    if len(names) <= _MOST_MODELS:
        return catalog
    rows = sorted(sorted(range(len(names)), key=lambda row: hash_text(names[row]))[:_MODELS_READ])
    models = catalog.models.select(rows)
    return Catalog(models, select_samples([catalog.samples], models.names))


def _recognition(catalog: Catalog) -> Mapping[int, float]:
    if len(catalog.models) > _MOST_MODELS:  # among some of them recognition would be easier than it is
        return {}
    try:
        return fit_identifier(catalog).recognition
    except DataError:
        return {}

"""What stage 2 is told of the models: a table made of the catalog."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model_behavior.catalog import Catalog
from model_behavior.catalog.agreement import measure_agreement
from model_behavior.data_models.scoring_types import ModelTable
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder


def model_table(
    encoder: ModelBehaviorEncoder, catalog: Catalog, voted: Sequence[str], names: Sequence[str] | None = None
) -> ModelTable:
    """Models as the scorer takes them: the identity part of their embeddings, and whom their responses agree with.

    Votes have shaped the other part of an embedding around the very models that the scorer learns from, so that ratings
    read from it hold less well for new ones (decision 0007). It is taken where there is no identity part.

    Args:
        encoder: of the catalog.
        catalog: with the models and those with votes.
        voted: models with votes, which agreement is measured with.
        names: models to have a row, all of the catalog by default.
    """
    chosen = tuple(catalog.models.names if names is None else names)
    place = {name: row for row, name in enumerate(catalog.models.names)}
    models = catalog.models.select([place[name] for name in chosen])
    agreement = measure_agreement(catalog.samples, chosen, voted)
    weight = encoder.config.features.identity_weight
    if not weight:
        return ModelTable(models.names, models.mean, models.count, models.spread, agreement)
    identity = np.ascontiguousarray(encoder.identity_of(models.mean))
    # In a unit embedding the identity part of a pair has this square length.
    square = weight**2 / (1 + weight**2)
    spread = np.sqrt(np.maximum(square - np.square(identity).sum(axis=1), 0)).astype(np.float32)
    return ModelTable(models.names, identity, models.count, spread, agreement)

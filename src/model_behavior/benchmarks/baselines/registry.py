"""The scoring models by name, for saved states and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_behavior.benchmarks.baselines.matrix_factorisation import MatrixFactorisation
from model_behavior.benchmarks.baselines.nearest_prompts import NearestPrompts
from model_behavior.benchmarks.baselines.ratings import Elo, LongerResponse, StyleControl
from model_behavior.errors import ArtifactError
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.model_base import ModelBase
from model_behavior.names import nearest

SCORING_MODELS: dict[str, type[ModelBase]] = {
    model.name: model
    for model in (
        DenseNetworkModel,
        BradleyTerry,
        Elo,
        MatrixFactorisation,
        NearestPrompts,
        LongerResponse,
        StyleControl,
    )
}


def load_scoring_model(state_dict: Mapping[str, Any]) -> ModelBase:
    """The model that a state is of.

    Raises:
        ArtifactError: an unknown model, or as for its `load_state_dict`.
    """
    name = str(state_dict.get("model"))
    if name not in SCORING_MODELS:
        near = nearest(SCORING_MODELS, name, 1, 0.6) or list(SCORING_MODELS)
        raise ArtifactError(f"scoring state of an unknown model {name!r}. Known names: {', '.join(near)}")
    return SCORING_MODELS[name].load_state_dict(state_dict)

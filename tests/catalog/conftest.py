"""An encoder trained on the built-in arena, with its catalog."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_behavior import ValidationSplit, pipeline
from model_behavior.artifact import Artifact
from model_behavior.data.arena import Arena
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.projection import ProjectionConfig
from model_behavior.models.behavior.text.registry import TextConfig
from model_behavior.models.behavior.training import OptimisationConfig
from model_behavior.pipeline import TrainingConfig
from model_behavior.preprocessing.cache import ContentCache

CONFIG = TrainingConfig(
    TextConfig(("style",)),
    # Two epochs are too few for the dropout that few votes are given otherwise.
    EncoderConfig(projection=ProjectionConfig(dim=16, hidden=32), optimisation=OptimisationConfig(many_votes=1)),
    split=ValidationSplit(0.3, seed=1),
    epochs=2,
    batch_size=256,
)


@pytest.fixture(scope="session")
def known(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The 18 voted models of the arena."""
    runtime = Runtime(ContentCache(Path(tmp_path_factory.mktemp("cache"))))
    return pipeline.train_encoder(arena.votes, CONFIG, runtime)

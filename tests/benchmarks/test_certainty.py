"""Certainty figures of an encoder on the built-in arena, and of known inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model_behavior import ModelBehaviorEncoder, ValidationSplit
from model_behavior.benchmarks.certainty import CertaintyFigures, _score, measure_certainty
from model_behavior.benchmarks.stage1_report import write_certainty
from model_behavior.data.arena import Arena
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.projection import ProjectionConfig
from model_behavior.models.behavior.text.registry import make_text_encoders
from model_behavior.names import draw_held_out
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.cache import ContentCache


@pytest.fixture(scope="module")
def figures(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> CertaintyFigures:
    """Two of the arena's families held out."""
    votes = arena.votes
    runtime = Runtime(ContentCache(Path(tmp_path_factory.mktemp("cache"))))
    config = EncoderConfig(projection=ProjectionConfig(dim=16, hidden=16))
    encoder = ModelBehaviorEncoder(make_text_encoders(["style"]), config, runtime)
    held_out = draw_held_out(votes.pairs.models, 0.3, np.random.default_rng(0))
    split = ValidationSplit(0.5, seed=1, held_out_models=held_out)
    encoder.train(votes, split, 1, 256)
    prepared = BehaviorEmbeddingPreprocessor(runtime.cache, encoder.config.preprocessing).preprocess(votes, split)
    return measure_certainty(encoder, prepared, 256, seed=0)


def test_regions_and_unknown_models_of_the_arena(figures: CertaintyFigures) -> None:
    few, more = figures.regions[1], figures.regions[8]
    assert more.radius < few.radius and more.shrunk_error < few.shrunk_error
    assert few.shrunk_error < few.plain_error
    for each in (few, more):
        assert each.variance_ratio == pytest.approx(1, abs=0.35)
        assert each.coverage[0.5] < each.coverage[0.8] <= each.coverage[0.95]
        assert each.coverage[0.95] > 0.75
    assert figures.unknown[8].log_loss < np.log(2) and figures.unknown[8].recognised > 0.5
    assert set(figures.unknown) == set(figures.unknown_by_style)


def test_report(figures: CertaintyFigures) -> None:
    text = "\n".join(write_certainty([figures, figures]))
    assert f"| 8 | {figures.regions[8].coverage[0.5]:.3f} ± 0.000" in text
    assert f"| style alone, 8 | {figures.unknown_by_style[8].recognised:.3f}" in text
    assert write_certainty([CertaintyFigures({}, {}, {}, float("nan"))]) == []


def test_scores_by_hand() -> None:
    p, is_new = np.array([0.1, 0.6, 0.9]), np.array([False, False, True])
    found = _score(p, is_new, np.array([True, False, False]))
    assert found.recognised == 0.5 and found.n == (2, 1)
    assert found.log_loss == pytest.approx(-(np.log(0.9) + np.log(0.4)) / 4 - np.log(0.9) / 2)
    assert found.brier == pytest.approx((0.01 + 0.36) / 4 + 0.01 / 2)
    assert found.calibration_error == pytest.approx(0.25 * 0.1 + 0.25 * 0.6 + 0.5 * 0.1)
    assert found.false_known == 0 and found.false_unknown == 0.5

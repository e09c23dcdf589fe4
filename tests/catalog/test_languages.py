"""The synthetic arena in other languages: its models are told apart as in English."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from model_behavior.artifact import Artifact
from model_behavior.benchmarks.languages import translate_pairs, translate_votes
from model_behavior.catalog.identification import Identification
from model_behavior.data.arena import build_arena
from model_behavior.data.filters import select_pairs, select_votes
from model_behavior.data_models.votes import TrainingData
from model_behavior.pipeline import TrainingConfig, train_encoder

N_PROMPTS, N_TRAINED = 150, 110


@cache
def arena_votes() -> TrainingData:
    return build_arena(0, N_PROMPTS, 12).votes


@cache
def identify_in(language: str) -> tuple[Artifact, dict[str | None, Identification]]:
    """An artifact trained in a language, and what it says of its own models' responses to other prompts."""
    votes = arena_votes()
    trained = select_votes(votes, np.flatnonzero(votes.pairs.prompt_index[votes.pair_a] < N_TRAINED))
    asked = select_pairs(votes.pairs, np.flatnonzero(votes.pairs.prompt_index >= N_TRAINED))
    if language != "en":
        trained, asked = translate_votes(trained, language), translate_pairs(asked, language)
    artifact = train_encoder(trained, replace(TrainingConfig(), epochs=2).with_seed(0))
    return artifact, artifact.identify(asked)


@pytest.mark.parametrize("language", ["en", "zh", "ja", "th"])
def test_models_are_told_apart_in_every_script(language: str) -> None:
    artifact, found = identify_in(language)
    named = [verdict.likeliest == model for model, verdict in found.items()]
    true = [
        next(each.probability for each in verdict.candidates if each.model == model) for model, verdict in found.items()
    ]
    assert np.mean(named) > 0.95
    assert np.mean(true) > 0.95
    said = " ".join(driver.text for name in artifact.models.names for driver in artifact.neighbours(name).drivers)
    lengths = [float(value) for value in re.findall(r"([\d.]+) characters per word", said)]
    assert "word group" not in said
    assert all(length < 15 for length in lengths)

"""What the prompt explains of style features, before and after."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model_behavior.benchmarks.stage1 import measure_topic_share
from model_behavior.data.filters import FilterConfig
from model_behavior.data_models.votes import Outcome, ValidationSplit
from model_behavior.preprocessing.behavior_embedding_preprocessor import (
    BehaviorEmbeddingPreprocessor,
    PreprocessingConfig,
)
from model_behavior.preprocessing.cache import ContentCache
from tests.conftest import VoteRow, make_votes

WORDS = ("alpha", "beta", "gamma", "delta", "omega")


def test_a_topic_that_sets_the_form_is_removed(tmp_path: Path) -> None:
    """Prompts that ask for a list get lists, whoever answers: all of the style is about the prompt."""
    rng = np.random.default_rng(0)
    rows: list[VoteRow] = []
    for index in range(80):
        listed = index % 2 == 0
        prompt = f"Please {'list items' if listed else 'tell a story'} about {WORDS[index % 5]} number {index}"
        answers = []
        for _ in range(2):
            words = [WORDS[i] for i in rng.integers(0, 5, 30)]
            answers.append("- " + "\n- ".join(words) if listed else " ".join(words) + ".")
        rows.append((prompt, "m", answers[0], "n", answers[1], Outcome.MODEL_A))
    cache = ContentCache(tmp_path)
    config = PreprocessingConfig(FilterConfig(min_comparisons=0))
    prepared = BehaviorEmbeddingPreprocessor(cache, config).preprocess(make_votes(rows), ValidationSplit(0.4, seed=0))
    share = measure_topic_share(prepared, cache)
    assert share.before > 0.5
    assert share.after < share.before / 4

"""The protocol's figures, against figures worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model_behavior.benchmarks.stage1 import DEFAULT, VARIANTS
from model_behavior.cli.app import run
from model_behavior.data.arena import Arena, write_votes
from model_behavior.data.split import pairs_of
from model_behavior.data_models.behavior_encoder_types import TripletKind
from model_behavior.data_models.votes import ValidationSplit
from model_behavior.evaluation.baselines import BASELINES, length_alone
from model_behavior.evaluation.figures import bootstrap_prompts, bootstrap_share
from model_behavior.evaluation.stage1 import Stage1Protocol
from model_behavior.names import number_families
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.cache import ContentCache


def test_the_interval_resamples_clusters_not_rows() -> None:
    """A thousand copies of ten coin flips know no more than the ten flips."""
    flips = np.array([1, 0, 1, 1, 0, 0, 1, 0, 1, 1], dtype=bool)
    few = bootstrap_share(flips, np.arange(10), np.random.default_rng(0))
    many = bootstrap_share(np.repeat(flips, 1000), np.repeat(np.arange(10), 1000), np.random.default_rng(0))
    assert few.value == many.value == 0.6
    assert (few.low, few.high) == (many.low, many.high)
    assert few.low == pytest.approx(0.3, abs=0.11) and few.high == pytest.approx(0.9, abs=0.11)
    assert (few.n, many.n) == (10, 10_000)
    loose = bootstrap_share(np.repeat(flips, 1000), np.arange(10_000), np.random.default_rng(0))
    assert loose.high - loose.low < 0.03


def test_the_interval_covers_the_truth_about_95_times_in_100() -> None:
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        chance = np.clip(rng.normal(0.6, 0.15, 40), 0, 1)
        hits = rng.random((40, 12)) < chance[:, None]
        figure = bootstrap_share(hits.ravel(), np.repeat(np.arange(40), 12), rng)
        covered += figure.low <= 0.6 <= figure.high
    assert 178 <= covered <= 199


def test_bootstrap_prompts_hands_out_whole_prompts() -> None:
    prompt = np.array([3, 3, 1, 1, 1, 9])

    def measure(rows: np.ndarray) -> float:
        counts = np.bincount(rows, minlength=6)
        assert counts[0] == counts[1] and counts[2] == counts[3] == counts[4]
        return float(counts[5])

    low, high = bootstrap_prompts(prompt, measure, 200, np.random.default_rng(0))
    assert low == 0 and high in (2, 3)


def test_a_perfect_and_a_useless_embedding(arena: Arena, tmp_path: Path) -> None:
    preprocessor = BehaviorEmbeddingPreprocessor(ContentCache(tmp_path))
    prepared = preprocessor.preprocess(arena.votes, ValidationSplit(0.3, seed=0))
    pairs = prepared.data.pairs
    by_model = np.eye(len(pairs.models), dtype=np.float32)[pairs.model_index]
    protocol = Stage1Protocol(prepared)
    perfect = protocol.measure(by_model)
    assert perfect.triplet["identity"].value == 1.0
    assert perfect.triplet["performance"].value == 0.0, "another model is never nearer than the loser: a draw is wrong"
    assert all(figure.value == 1.0 for figure in perfect.identification.values())
    assert perfect.family == perfect.identification and perfect.model_share == pytest.approx(1.0)
    assert perfect.balanced.value == 1.0 and perfect.balanced.low == 1.0
    family = number_families(pairs.models)
    siblings = protocol.measure(np.eye(int(family.max()) + 1, dtype=np.float32)[family[pairs.model_index]])
    assert all(figure.value == 1.0 for figure in siblings.family.values())
    assert all(figure.value < 1.0 for figure in siblings.identification.values())
    by_prompt = np.eye(len(pairs.prompts), dtype=np.float32)[pairs.prompt_index]
    useless = protocol.measure(by_prompt)
    assert useless.triplet["all"].value == 0.0 and useless.prompt_share == pytest.approx(1.0)
    assert useless.balanced.value == 0.5
    kinds = prepared.validation_triplets.kind
    assert perfect.triplet["all"].n == int((kinds <= TripletKind.PERFORMANCE).sum())
    rng = np.random.default_rng(0)
    noise = [protocol.measure(rng.normal(size=(len(pairs), 16)).astype(np.float32)) for _ in range(20)]
    assert np.mean([figures.triplet["all"].value for figures in noise]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([figures.prompt_share for figures in noise]) == pytest.approx(0, abs=0.01)
    assert all(13 < figures.effective_rank <= 16 for figures in noise)
    assert protocol.measure(by_model) == perfect == Stage1Protocol(prepared).measure(by_model), "no memory of others"


def test_length_alone_orders_by_difference_of_length(arena: Arena, tmp_path: Path) -> None:
    preprocessor = BehaviorEmbeddingPreprocessor(ContentCache(tmp_path))
    prepared = preprocessor.preprocess(arena.votes, ValidationSplit(0.3, seed=0))
    vectors = length_alone(prepared, preprocessor, lambda done, total: None)
    length = np.log1p([len(text) for text in prepared.data.pairs.responses.to_pylist()])
    near = np.argsort(np.abs(length - length[0]), kind="stable")[1:50]
    cosine = vectors @ vectors[0]
    assert (np.diff(cosine[near]) <= 1e-6).all()


@pytest.mark.parametrize("name", list(BASELINES))
def test_baselines_embed_every_pair(name: str, arena: Arena, tmp_path: Path) -> None:
    preprocessor = BehaviorEmbeddingPreprocessor(ContentCache(tmp_path))
    prepared = preprocessor.preprocess(arena.votes, ValidationSplit(0.3, seed=0))
    vectors = BASELINES[name](prepared, preprocessor, lambda done, total: None)
    assert len(vectors) == len(prepared.data.pairs) and np.isfinite(vectors).all()
    assert len(pairs_of(prepared.data, prepared.split.validation)) > 0
    figures = Stage1Protocol(prepared).measure(vectors)
    assert figures.identification[8].value > 1 / figures.n_models


@pytest.mark.usefixtures("few_replicates")
def test_the_benchmark_writes_a_report(arena: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_votes(arena, tmp_path / "votes.parquet")
    output = tmp_path / "report" / "stage1.md"
    arguments = ["benchmark", "stage1", str(tmp_path / "votes.parquet"), "--output", str(output), "--no-semantic"]
    arguments += ["--seeds", "2", "--epochs", "1", "--validation-fraction", "0.3", "--robustness"]
    arguments += ["--cache", str(tmp_path / "c")]
    chosen = [DEFAULT, "default without the identity part"]
    arguments += [word for name in chosen for word in ("--variant", name)]
    assert run(arguments) == 0
    text = output.read_text()
    assert "## votes" in text and "trained, default (style + lexical)" in text and "TF-IDF" in text
    assert f"{len(arena.votes):,} votes, 18 models, 60 prompts" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.count("|") > 10 and " ± " in line]
    assert len(rows) == 3 + len(chosen) + 2
    assert "| the default's trained part alone | 0." in text and "| the default's identity part alone | 0." in text
    for name in VARIANTS:
        assert (f"| {name} |" in text) == (name in chosen)
    assert "Topic share of style features: 0." in text and "| oracle | 1 | 0." in text
    assert "| 128 | " in text and "within 10 % of length" in text
    assert "benchmark stage1 votes.parquet --output stage1.md --validation-fraction 0.3 --seeds 2 --epochs 1" in text
    assert f'--variant "{DEFAULT}"' in text
    assert "--robustness" in text.splitlines()[2]
    changed = [line.split(" | ") for line in text.splitlines() if line.startswith(("| as they are |", "| carriage"))]
    assert len(changed) == 2 and changed[0][1:] == changed[1][1:], "what nobody sees changes nothing"
    assert "| lower case | " in text and "| 20% of another LLM's | " in text
    assert "nan" not in text
    pictures = sorted(path.name for path in output.parent.glob("*.svg"))
    assert pictures == [f"stage1-votes-{name}.svg" for name in ("identification", "map", "new-models")]
    assert all(f"![{name}]({name})" in text for name in pictures)
    capsys.readouterr()

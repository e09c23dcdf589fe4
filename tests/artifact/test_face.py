"""The verbs of an artifact say what the parts below them say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from model_behavior import Artifact, TrainingConfig, ValidationSplit, train
from model_behavior.catalog.drift import DriftConfig
from model_behavior.catalog.enrolment import EnrolmentConfig
from model_behavior.catalog.neighbours import find_neighbours
from model_behavior.data.arena import Arena
from model_behavior.errors import UsageError
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.text.registry import TextConfig
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_training import ScoringSchedule
from model_behavior.pipeline import train_encoder, train_scorer
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.serving.service import Service
from tests.conftest import answer, held_out_rows

CONFIG = TrainingConfig(
    TextConfig(("style",)),
    split=ValidationSplit(0.3),
    epochs=1,
    scorer=DenseNetworkConfig(schedule=ScoringSchedule(epochs=3)),
)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(ContentCache(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def both(arena: Arena, runtime: Runtime) -> Artifact:
    return train(arena.votes, CONFIG, runtime)


@pytest.fixture(scope="module")
def grown(both: Artifact, arena: Arena) -> Artifact:
    return both.onboard(arena.held_out_responses)


def test_the_stages_one_by_one_give_what_train_gives(both: Artifact, arena: Arena, runtime: Runtime) -> None:
    again = train_scorer(train_encoder(arena.votes, CONFIG, runtime), arena.votes, CONFIG.scorer)
    assert again.rank() == both.rank()
    assert np.array_equal(again.models.mean, both.models.mean)


def test_an_artifact_shows_in_one_line_what_it_is(both: Artifact, grown: Artifact) -> None:
    assert repr(both) == "Artifact(18 models, 18 of them voted on; style, 128 dimensions)"
    assert repr(grown) == "Artifact(24 models, 18 of them voted on; style, 128 dimensions)"


def test_another_seed_is_another_training_everywhere(arena: Arena) -> None:
    config = CONFIG.with_seed(7)
    assert (config.encoder.seed, config.split.seed, config.scorer.schedule.seed) == (7, 7, 7)
    assert config.text == CONFIG.text


def test_models_come_and_go_and_the_artifact_before_stays(both: Artifact, grown: Artifact, arena: Arena) -> None:
    assert set(grown.models.names) - set(both.models.names) == set(arena.held_out)
    newcomer = sorted(arena.held_out)[0]
    left = grown.remove(newcomer)
    assert newcomer in grown.models.names and newcomer not in left.models.names
    with pytest.raises(UsageError):
        grown.remove("no such model")


def test_ranks_are_the_scorers_ratings_best_first(grown: Artifact) -> None:
    rows = grown.rank()
    ratings = grown.trained_scorer.rate()
    expected = sorted(zip(ratings.rating, ratings.models, strict=True), reverse=True)
    assert [row.model for row in rows] == [name for _, name in expected]
    two = [rows[3].model, rows[0].model]
    assert [row.model for row in grown.rank(models=two)] == two[::-1]
    assert grown.rank("Is 7 prime?") != rows


def test_predictions_are_probabilities_that_swap_with_the_sides(grown: Artifact) -> None:
    a, b = grown.models.names[:2]
    forth, back = grown.predict(["Is 7 prime?"] * 2, [a, b], [b, a])
    assert forth.shape == (4,) and forth.sum() == pytest.approx(1)
    assert forth[[1, 0, 2, 3]] == pytest.approx(back, abs=1e-6)


def test_routes_keep_a_budget_a_floor_or_a_threshold(grown: Artifact, tmp_path: Path) -> None:
    best, worst = grown.rank()[0].model, grown.rank()[-1].model
    costs = {best: 1.0, worst: 0.1}
    prompts = ["Is 7 prime?", "Name a river.", "Write a poem.", "What is recursion?"]
    assert {choice.model for choice in grown.route(prompts, costs)} == {best}
    assert {choice.model for choice in grown.route(prompts, costs, threshold=1e9)} == {worst}
    assert np.mean([choice.cost for choice in grown.route(prompts, costs, budget=0.4)]) <= 0.4
    (tmp_path / "costs.json").write_text(json.dumps(costs))
    assert grown.route(prompts, tmp_path / "costs.json") == grown.route(prompts, costs)
    with pytest.raises(UsageError, match="budget and floor given"):
        grown.route(prompts, costs, budget=1.0, floor=0.1)


def test_identification_judges_each_name_and_the_nameless(grown: Artifact, arena: Arena, tmp_path: Path) -> None:
    found = grown.identify(arena.held_out_responses)
    assert set(found) == set(arena.held_out)
    assert sum(each.likeliest == name for name, each in found.items()) >= len(found) - 1
    name = sorted(arena.held_out)[0]
    log = tmp_path / "log.jsonl"
    rows = [{"prompt": row["prompt"], "response": row["response"]} for row in _rows_of(arena, name)]
    log.write_text("\n".join(map(json.dumps, rows)))
    (nameless,) = grown.identify(log).items()
    assert nameless == (None, found[name])


def test_neighbours_are_those_of_the_catalog(grown: Artifact, arena: Arena) -> None:
    name = sorted(arena.held_out)[0]
    assert grown.neighbours(name, 3, 2) == find_neighbours(grown.catalog, name, 3, 2)


def test_drift_is_found_in_other_models_answers_and_not_in_the_same(
    grown: Artifact, arena: Arena, tmp_path: Path
) -> None:
    name, other = sorted(arena.held_out)[:2]
    config = DriftConfig(permutations=99)
    for writer, changed in ((name, False), (other, True)):
        rows = [{"prompt": row["prompt"], "response": row["response"]} for row in _rows_of(arena, writer)]
        (tmp_path / "today.jsonl").write_text("\n".join(map(json.dumps, rows)))
        assert grown.drift(tmp_path / "today.jsonl", name, config).changed is changed
    with pytest.raises(UsageError, match="unknown model"):
        grown.drift(tmp_path / "not read.jsonl", "no such model")


def test_certainty_is_of_the_models_asked_for(grown: Artifact, arena: Arena) -> None:
    name = sorted(arena.held_out)[0]
    (sure,) = grown.certainty([name])
    row = {each.model: each for each in grown.rank()}[name]
    assert sure.rating is not None and sure.rating.half_width == pytest.approx((row.high - row.low) / 2, rel=1e-3)


def test_how_much_is_kept_of_responses_is_a_choice(both: Artifact, arena: Arena) -> None:
    few = both.onboard(arena.held_out_responses, config=EnrolmentConfig(max_vectors=4, n_exemplars=1, n_answers=0))
    samples = few.catalog.samples
    row = samples.names.index(sorted(arena.held_out)[0])
    assert len(samples.exemplars[row]) == 1 and not samples.answers[row]
    kept = samples.embedded.rows_of(row)
    assert kept.stop - kept.start == 4


# Words that only the texts have.
PROMPT, RESPONSE, HISTORY, ANSWER = "quillwort", "zyzzogeton", "ferblunget", "wobbegong"


@pytest.fixture(scope="module")
def talkative(arena: Arena) -> Artifact:
    """Trained on texts of which each can be told from everything else that is in a folder; both kinds of encoders."""
    pairs, more = arena.votes.pairs, arena.held_out_responses
    marked = replace(
        pairs,
        prompts=_end_with(pairs.prompts, PROMPT),
        responses=_end_with(pairs.responses, RESPONSE),
        histories=_end_with(pairs.histories, HISTORY),
    )
    trained = train(replace(arena.votes, pairs=marked), replace(CONFIG, text=TextConfig(("style", "lexical"))))
    answers = replace(more, responses=_end_with(more.responses, ANSWER))
    return trained.onboard(answers)


def test_a_folder_without_texts_holds_none(talkative: Artifact, tmp_path: Path) -> None:
    talkative.save(tmp_path / "full")
    written = _bytes_of(tmp_path / "full")
    texts = b"".join(content for name, content in written.items() if name.startswith("samples/"))
    assert all(word.encode() in texts for word in (PROMPT, RESPONSE, ANSWER))
    talkative.save(tmp_path / "full", texts=False)  # what was there with texts is replaced
    talkative.save(tmp_path / "bare", texts=False)
    for folder in ("full", "bare"):
        found = _bytes_of(tmp_path / folder)
        kept = {name for name in written if "/" not in name} - {"prompts.json", "prompts.safetensors"}  # whole texts
        assert {name for name in found if "/" not in name} == kept
        assert kept >= {"scorer.json", "scorer.safetensors", "revisions.json", "README.md"}
        for name, content in found.items():
            for word in (PROMPT, RESPONSE, HISTORY, ANSWER):
                assert word.encode() not in content and word.encode("utf-16-le") not in content, name


def test_without_texts_everything_is_asked_as_before(
    talkative: Artifact, arena: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare, name, other = tmp_path / "bare", *sorted(arena.held_out)[:2]
    talkative.save(bare, texts=False)
    loaded = Artifact.load(bare)
    assert loaded.rank() == talkative.rank() and loaded.rank("Is 7 prime?") == talkative.rank("Is 7 prime?")
    near, same = loaded.neighbours(name), talkative.neighbours(name)
    assert same.exemplars and not near.exemplars
    assert [(each.model, each.distance) for each in near.neighbours] == [
        (each.model, each.distance) for each in same.neighbours
    ]
    assert loaded.identify(_log_of(arena, name, tmp_path))[name].likeliest == name
    service = Service(bare)
    compared = service.compare(name, other)
    assert compared.drivers and not (compared.shared or compared.exemplars_a or compared.exemplars_b)
    assert answer(capsys, "map", bare, "--full", "--output", tmp_path / "page.html")["models"] == len(loaded.models)
    assert not any(word in (tmp_path / "page.html").read_text() for word in (PROMPT, RESPONSE, HISTORY, ANSWER))


def test_without_texts_more_responses_join_those_before(talkative: Artifact, arena: Arena, tmp_path: Path) -> None:
    name, bare = sorted(arena.held_out)[0], tmp_path / "bare"
    talkative.save(bare, texts=False)
    loaded, log = Artifact.load(bare), _log_of(arena, name, tmp_path)
    row = loaded.models.names.index(name)
    nothing = loaded.onboard(log, add=True, config=EnrolmentConfig(n_exemplars=0, n_answers=0))
    assert not nothing.catalog.samples.exemplars[row] and not nothing.catalog.samples.answers[row]
    grown = loaded.onboard(log, add=True)
    assert grown.models.count[row] == talkative.models.count[row] + len(_rows_of(arena, name))
    assert len(grown.catalog.samples.exemplars[row]) == 3
    assert sum(map(len, grown.catalog.samples.exemplars)) == 3  # those of the others are not to be had again
    assert [each.number for each in grown.revisions[name]] == [1, 2]
    grown.save(bare, texts=False)
    assert Artifact.load(bare).onboard(log, add=True).models.count[row] == grown.models.count[row]  # known already


def test_what_needs_stage_2_says_how_to_get_it(grown: Artifact) -> None:
    without = replace(grown, scorer=None)
    for ask in (without.rank, lambda: without.predict(["p"], ["a"], ["b"]), lambda: without.route(["p"], {})):
        with pytest.raises(UsageError, match="train-scorer"):
            ask()


def _rows_of(arena: Arena, name: str) -> list[dict[str, str]]:
    return [row for row in held_out_rows(arena) if row["model"] == name]


def _log_of(arena: Arena, name: str, folder: Path) -> Path:
    path = folder / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, _rows_of(arena, name))))
    return path


def _end_with(texts: pa.LargeStringArray, word: str) -> pa.LargeStringArray:
    return pa.array([f"{text} {word}" for text in texts.to_pylist()], pa.large_string())


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().lower()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }

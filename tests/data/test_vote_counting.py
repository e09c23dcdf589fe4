"""Votes counted file by file give the ratings of all votes at once, wherever the files lie."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior.cli.app import run
from model_behavior.data.loading import load_responses, load_votes
from model_behavior.data.sources import cut_into_shards
from model_behavior.data.split import hash_prompt_column, hash_prompts
from model_behavior.data.vote_counting import ProcessWorkers, count_votes
from model_behavior.data_models.scoring_types import ScoringVotes
from model_behavior.data_models.vote_counts import VoteCounts, add_counts
from model_behavior.errors import DataError, UsageError
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from tests.data.s3_server import S3Server, running

NAMES = tuple(f"m{number}" for number in range(7))
WORDS = ("model_a", "model_b", "tie", "tie (bothbad)")
PROMPTS = (
    *("Explain recursion.", "explain  RECURSION. ", "a\n\nb", "Say: hi", "2 * 3", "<|im_start|>user\nhi", "x -- y", ""),
    *("naïve “quotes”", "Tab\tbetween", "Human: hello", "&lt;b&gt;", "[INST] go", "a\u200bb", "-", "`code`", "A\x0bB"),
)


def draw_rows(n: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    strength = np.linspace(-1, 1, len(NAMES))
    rows = []
    for _ in range(n):
        a, b = rng.choice(len(NAMES), 2, replace=False).tolist()
        wins = rng.random() < 1 / (1 + np.exp(strength[b] - strength[a]))
        winner = WORDS[int(rng.integers(2, 4))] if rng.random() < 0.3 else WORDS[0 if wins else 1]
        prompt = f"Question {rng.integers(n // 4)}?"
        rows.append({"prompt": prompt, "model_a": NAMES[a], "model_b": NAMES[b], "winner": winner})
    return rows


def write_files(rows: list[dict[str, Any]], folder: Path, n_files: int) -> Path:
    folder.mkdir()
    for number in range(n_files):
        pq.write_table(pa.Table.from_pylist(rows[number::n_files]), folder / f"{number:03}.parquet")
    return folder


def as_scoring_votes(rows: list[dict[str, Any]]) -> ScoringVotes:
    prompts = sorted({row["prompt"] for row in rows})
    models = sorted({row[side] for row in rows for side in ("model_a", "model_b")})
    return ScoringVotes(
        prompts=tuple(prompts),
        models=tuple(models),
        prompt_index=np.array([prompts.index(row["prompt"]) for row in rows], np.int32),
        model_a=np.array([models.index(row["model_a"]) for row in rows], np.int32),
        model_b=np.array([models.index(row["model_b"]) for row in rows], np.int32),
        outcome=np.array([WORDS.index(row["winner"]) for row in rows], np.int8),
    )


def assert_same(found: VoteCounts, expected: VoteCounts) -> None:
    assert found.models == expected.models
    for name in ("prompt", "cell", "count"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_counts_of_many_files_give_the_ratings_of_all_votes_one_by_one(tmp_path: Path) -> None:
    rows = draw_rows(900)
    counts, report = count_votes(write_files(rows, tmp_path / "votes", 5))
    assert counts.n_votes == 900 and sum(each.used for each in report.sources) == 900
    fitted, expected = BradleyTerry(), BradleyTerry()
    fitted.fit_counts(counts)
    expected.fit(as_scoring_votes(rows))
    assert fitted.models == expected.models and fitted.constants == pytest.approx(expected.constants, abs=1e-6)
    np.testing.assert_allclose(fitted.rating, expected.rating, atol=1e-6)
    np.testing.assert_allclose(fitted.covariance, expected.covariance, atol=1e-8)
    np.testing.assert_array_equal(fitted.votes, expected.votes)
    np.testing.assert_array_equal(fitted.component, expected.component)


def test_clusters_are_summed_whole_however_they_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, _ = count_votes(write_files(draw_rows(300), tmp_path / "votes", 2))
    whole, cut = BradleyTerry(), BradleyTerry()
    whole.fit_counts(counts)
    monkeypatch.setattr("model_behavior.models.scoring.bradley_terry._CELLS_AT_ONCE", 7)
    cut.fit_counts(counts)
    np.testing.assert_allclose(cut.covariance, whole.covariance, rtol=1e-9)


def test_parts_add_up_in_any_order_in_one_process_or_two(tmp_path: Path) -> None:
    folder = write_files(draw_rows(400), tmp_path / "votes", 4)
    whole, _ = count_votes(folder)
    parts = [count_votes(path)[0] for path in sorted(folder.iterdir())]
    assert_same(add_counts(parts[::-1]), whole)
    assert_same(add_counts([add_counts(parts[:3]), parts[3]]), whole)
    assert_same(count_votes(folder, workers=ProcessWorkers(2))[0], whole)
    table = folder.parent / "all.csv"
    rows = [row for path in sorted(folder.iterdir()) for row in pq.read_table(path).to_pylist()]
    table.write_text("\n".join(["prompt,model_a,model_b,winner", *(",".join(row.values()) for row in rows)]))
    assert_same(count_votes(table)[0], whole)  # row by row, as any other format


def test_what_cannot_be_counted_is_told(tmp_path: Path) -> None:
    rows = draw_rows(40)
    rows[3]["winner"], rows[5]["model_a"], rows[7]["model_b"] = None, None, rows[7]["model_a"]
    folder = write_files(rows, tmp_path / "votes", 1)
    (report,) = count_votes(folder)[1].sources
    expected = {"no outcome": 1, "no model name": 1, "same model on both sides": 1}
    assert report.used == 37 and report.skipped == expected
    rows[9]["winner"] = "nobody knows"
    with pytest.raises(DataError, match=r"000\.parquet, row 10: unknown outcome 'nobody knows'"):
        count_votes(write_files(rows, tmp_path / "bad", 1))
    with pytest.raises(UsageError, match="no source was given"):
        count_votes()


def test_without_a_prompt_every_vote_is_by_itself(tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name != "prompt"} for row in draw_rows(60)]
    counts, _ = count_votes(write_files(rows, tmp_path / "votes", 2))
    assert len(set(counts.prompt.tolist())) == 60
    numbered = [{**row, "question_id": number // 3} for number, row in enumerate(rows)]
    assert len(set(count_votes(write_files(numbered, tmp_path / "more", 2))[0].prompt.tolist())) == 20


def test_a_column_of_prompts_has_the_keys_of_its_prompts() -> None:
    np.testing.assert_array_equal(hash_prompt_column(pa.array(PROMPTS)), hash_prompts(PROMPTS))
    keys = hash_prompt_column(pa.array(PROMPTS[:2]))
    assert keys[0] == keys[1]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "allowed")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with running(S3Server({})) as server:
        yield server


def put_table(store: S3Server, key: str, rows: list[dict[str, Any]]) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    store.objects[key] = buffer.getvalue()


def with_texts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    texts = [rng.bytes(3000).hex() for _ in range(2 * len(rows))]
    sides = zip(texts[::2], texts[1::2], strict=True)
    return [{**row, "response_a": a, "response_b": b} for row, (a, b) in zip(rows, sides, strict=True)]


def test_files_in_a_bucket_are_those_of_a_folder(
    store: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = with_texts(draw_rows(200))
    folder = write_files(rows, tmp_path / "votes", 3)
    for path in folder.iterdir():
        store.objects[f"day/{path.name}"] = path.read_bytes()
    store.objects["day/_SUCCESS"] = store.objects["day/.hidden.parquet"] = b"no data"
    store.objects["lines/votes.jsonl"] = "\n".join(map(json.dumps, rows)).encode()
    store.failing = 2  # which is tried again
    counts, report = count_votes(store.address("day/"))
    assert_same(counts, count_votes(folder)[0])
    assert len(report.sources) == 3
    assert store.bytes_sent() < sum(map(len, store.objects.values())) / 10  # the responses are not asked for
    data, _ = load_votes(store.address("day"))
    assert data.pairs.responses.equals(load_votes(folder)[0].pairs.responses)
    assert len(load_votes(store.address("lines/votes.jsonl"))[0]) == 200
    assert len(load_responses(store.address("lines"))[0]) == 400
    shards = cut_into_shards(store.address("day"), 50)
    assert [shard.part for shard in shards[:2]] == [range(0, 50), range(50, 67)]
    assert shards == cut_into_shards(store.address("day"), 50)
    assert run(["rate", store.address("day"), "--json", "--workers", "1"]) == 0
    assert {row["model"] for row in json.loads(capsys.readouterr().out)} == set(NAMES)


def test_a_bucket_that_cannot_be_read_is_said_in_one_line(store: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    put_table(store, "day/0.parquet", draw_rows(20))
    with pytest.raises(DataError, match=r"there is nothing there\. Fix: check bucket and path"):
        count_votes(store.address("night/"))
    elsewhere = store.address("day/").replace("s3://votes", "s3://nobody")
    with pytest.raises(DataError, match=r"there is no(thing there| such bucket)"):
        count_votes(elsewhere)
    store.objects["day/1.parquet"] = store.objects["day/0.parquet"][:-30]
    with pytest.raises(DataError, match=r"1\.parquet.*: not a Parquet file, or a damaged one"):
        count_votes(store.address("day/"))
    with pytest.raises(UsageError, match="unknown scheme 'nowhere'"):
        count_votes("nowhere://bucket/votes")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    with pytest.raises(DataError, match=r"access was refused\. Fix: give AWS_ACCESS_KEY_ID"):
        count_votes(store.address("day/0.parquet"))

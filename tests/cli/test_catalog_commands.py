"""onboard, neighbours, identify, drift, remove and encode, as a user runs them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior.artifact import Artifact
from model_behavior.catalog.drift_history import read_checks
from model_behavior.cli.app import run
from model_behavior.data.arena import Arena
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.sharding import runs
from tests.cli.conftest import said, start
from tests.conftest import answer, held_out_rows


@pytest.fixture(scope="module")
def folder(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The held-out models' responses in one file, and those of one of them as a log without names."""
    path = tmp_path_factory.mktemp("catalog")
    rows = held_out_rows(arena)
    pq.write_table(pa.Table.from_pylist(rows), path / "responses.parquet")
    log = [{"prompt": row["prompt"], "response": row["response"]} for row in rows if row["model"] == arena.held_out[0]]
    (path / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    return path


@pytest.fixture
def encoder(stage1: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(stage1, tmp_path / "e"))


def text(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert run([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_onboard_enrols_all_models_of_a_file(
    folder: Path, encoder: Path, tmp_path: Path, arena: Arena, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("onboard", "embed-models"):
        value = answer(capsys, command, encoder, folder / "responses.parquet", "--output", tmp_path / command)
        assert [row["model"] for row in value["embedded"]] == list(arena.held_out)
        assert all(row["rating"] is None and row["radius"]["0.95"] > 0 for row in value["embedded"])
        catalog = Artifact.load(tmp_path / command).catalog
        assert len(catalog.models) == 24 and (catalog.samples.style_count > 0).all()
    assert len(Artifact.load(encoder).models) == 18


def test_neighbours_in_words(folder: Path, encoder: Path, arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["onboard", str(encoder), str(folder / "responses.parquet")]) == 0
    name = arena.held_out[0]
    value = answer(capsys, "neighbours", encoder, name, "--number", 2)
    assert len(value["neighbours"]) == 2 and value["neighbours"][0]["distance"] <= value["neighbours"][1]["distance"]
    shown = text(capsys, "neighbours", encoder, name, "--number", 2)
    assert f"1. {value['neighbours'][0]['model']}: distance" in shown and "geometric means" in shown
    for driver in value["neighbours"][0]["drivers"]:
        assert f"- {driver['text']}" in shown
    assert value["exemplars"][0]["response"].splitlines()[0] in shown
    for near in value["neighbours"]:
        same = near["shared"][0]
        for words in (same["prompt"], same["response_a"], same["response_b"]):
            assert words.strip().splitlines()[0] in shown
    assert shown.count("asked of both:") == 2 and f"typical of {value['neighbours'][0]['model']}" not in shown
    many = text(capsys, "neighbours", encoder, name, "--number", 1, "--exemplars", 8)
    n_shared = len(value["neighbours"][0]["shared"])
    assert many.count("asked of both:") == n_shared
    assert many.count(f"typical of {value['neighbours'][0]['model']}") == min(3, 8 - n_shared)
    assert run(["neighbours", str(encoder), "amber-huge"]) == 2
    assert "nearest of the 24 known: amber-" in capsys.readouterr().err


def test_identify_says_none_then_the_name(
    folder: Path, encoder: Path, arena: Arena, capsys: pytest.CaptureFixture[str]
) -> None:
    (before,) = answer(capsys, "identify", encoder, folder / "log.jsonl")
    assert before["likeliest"] is None and before["name"] is None and before["none"] > 0.5
    given = len((folder / "log.jsonl").read_text("utf-8").splitlines())
    assert before["given_responses"] == given >= before["n_responses"] > 0
    assert run(["onboard", str(encoder), str(folder / "responses.parquet")]) == 0
    (after,) = answer(capsys, "identify", encoder, folder / "log.jsonl")
    assert after["likeliest"] == arena.held_out[0] and len(after["candidates"]) == 24
    shown = text(capsys, "identify", encoder, folder / "responses.parquet", "--top", 2)
    assert f"{arena.held_out[1]}, " in shown and "22 other known models" in shown and "none of them" in shown


def test_drift_of_the_same_and_of_another_model(
    folder: Path, encoder: Path, tmp_path: Path, arena: Arena, capsys: pytest.CaptureFixture[str]
) -> None:
    name = arena.held_out[0]
    assert run(["onboard", str(encoder), str(folder / "log.jsonl"), "--model", name]) == 0
    same = answer(capsys, "drift", encoder, folder / "log.jsonl", "--model", name)
    assert not same["changed"] and same["p_value"] == 1 and same["by_prompt"]
    rows = pq.read_table(folder / "responses.parquet").to_pylist()
    other = [
        {"prompt": row["prompt"], "response": row["response"]} for row in rows if row["model"] == arena.held_out[3]
    ]
    (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, other)))
    found = answer(capsys, "drift", encoder, tmp_path / "other.jsonl", "--model", name)
    assert found["changed"] and found["p_value"] == 0.001 and found["effect"] > 0.5 and found["drivers"]
    shown = text(capsys, "drift", encoder, tmp_path / "other.jsonl", "--model", name, "--permutations", 99)
    assert f"{name}: changed (p = 0.01)" in shown and "by prompt, on" in shown
    assert run(["drift", str(encoder), str(tmp_path / "other.jsonl"), "--model", "nobody"]) == 2
    assert "unknown model 'nobody'; nearest" in capsys.readouterr().err


def test_a_scheduled_check_fails_on_a_change_and_keeps_a_history(
    folder: Path, encoder: Path, tmp_path: Path, arena: Arena, capsys: pytest.CaptureFixture[str]
) -> None:
    name = arena.held_out[0]
    assert run(["onboard", str(encoder), str(folder / "log.jsonl"), "--model", name]) == 0
    rows = pq.read_table(folder / "responses.parquet").to_pylist()
    other = [
        {"prompt": row["prompt"], "response": row["response"]} for row in rows if row["model"] == arena.held_out[3]
    ]
    (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, other)))
    asked = ["--model", name, "--fail-on-change", "--json"]
    assert run(["drift", str(encoder), str(folder / "log.jsonl"), *asked]) == 0
    capsys.readouterr()
    assert run(["drift", str(encoder), str(tmp_path / "other.jsonl"), *asked]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["changed"] and "Traceback" not in shown.err
    last = shown.err.strip().splitlines()[-1]
    assert last.startswith(f"{name}: changed (p = 0.001, effect ") and f"{len(other)} new responses): " in last
    same, changed = read_checks(encoder / "drift.jsonl")
    assert (same.changed, same.p_value, same.reasons) == (False, 1.0, ())
    assert changed.changed and changed.n == len(other) and changed.reasons and changed.summary() == last
    (encoder / "drift.jsonl").unlink()
    (encoder / "drift.jsonl").mkdir()  # a history that cannot be written fails no check
    assert run(["drift", str(encoder), str(folder / "log.jsonl"), *asked]) == 0
    assert "the check is not in the history" in capsys.readouterr().err


def test_remove(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = Artifact.load(encoder).models.names
    value = answer(capsys, "remove", encoder, names[0], names[3], "--output", tmp_path / "left")
    assert value["removed"] == [names[0], names[3]] and value["models"] == 16
    assert set(Artifact.load(tmp_path / "left").models.names) == set(names) - {names[0], names[3]}
    assert run(["remove", str(encoder), "nobody"]) == 2
    assert Artifact.load(encoder).models.names == names


def test_onboard_adds_where_it_is_told_to(
    folder: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (folder / "log.jsonl").read_text().splitlines()
    for name, part in (("first", lines[:40]), ("more", lines[30:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(part))
    assert run(["onboard", str(encoder), str(tmp_path / "first.jsonl"), "--model", "new"]) == 0
    (row,) = answer(capsys, "onboard", encoder, tmp_path / "more.jsonl", "--model", "new", "--add")["embedded"]
    assert row["responses"] == len(lines) and row["revision"] == 2
    assert run(["onboard", str(encoder), str(tmp_path / "more.jsonl"), "--model", "new", "--add"]) == 0
    assert "new: 0 responses join the 60 there, 30 known already" in capsys.readouterr().err
    assert run(["onboard", str(encoder), str(tmp_path / "first.jsonl"), "--model", "new"]) == 0
    assert "new: 40 responses replace the 60 there; --add would join them" in capsys.readouterr().err
    loaded = Artifact.load(encoder)
    assert int(loaded.models.count[loaded.models.names.index("new")]) == 40
    assert [each.responses for each in loaded.revisions["new"]] == [40, 60, 40]  # nothing new is no revision


def test_every_command_that_encodes_takes_a_backend(
    folder: Path, stage1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, model = str(folder / "log.jsonl"), Artifact.load(stage1).models.names[0]
    asked: list[str] = []
    monkeypatch.setattr(StyleEncoder, "use_backend", lambda encoder, backend: asked.append(backend))
    for command in (
        ["onboard", str(stage1), log, "--model", "new", "--output", str(tmp_path / "grown")],
        ["identify", str(stage1), log],
        ["drift", str(stage1), log, "--model", model],
        ["encode", str(stage1), log, "--output", str(tmp_path / "vectors.parquet")],
    ):
        assert run([*command, "--backend", "torch"]) == 0
        assert asked and set(asked) == {"torch"}, command
        asked.clear()


def test_a_surer_none_takes_from_the_models(folder: Path, encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, many = (
        answer(capsys, "identify", encoder, folder / "log.jsonl", "--prior-none", prior)[0]["none"]
        for prior in (0.01, 0.99)
    )
    assert few < many


def test_alpha_decides_what_counts_as_a_change(
    folder: Path, encoder: Path, arena: Arena, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["onboard", str(encoder), str(folder / "responses.parquet")]) == 0
    asked = ["drift", encoder, folder / "log.jsonl", "--model", arena.held_out[0]]
    strict, lax = (answer(capsys, *asked, "--alpha", alpha) for alpha in (0.0, 1.0))
    assert not strict["changed"] and lax["changed"] and strict["p_value"] == lax["p_value"]


def test_a_small_file_is_enrolled_without_shards_and_gives_the_same_bytes(
    folder: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []

    def watch(output: Path) -> Path:
        folders.append(output.name)
        return work_folder(output)

    work_folder = runs._work_folder
    monkeypatch.setattr(runs, "_work_folder", watch)
    known = ["onboard", str(encoder), str(folder / "responses.parquet"), "--output"]
    assert run([*known, str(tmp_path / "direct")]) == 0
    assert folders == []
    assert run([*known, str(tmp_path / "shards"), "--shard-rows", "100"]) == 0
    assert folders == ["shards"]
    for name in ("models.safetensors", "models.json"):
        assert (tmp_path / "direct" / name).read_bytes() == (tmp_path / "shards" / name).read_bytes()
    assert not list(tmp_path.glob(".*.shards"))


def test_processes_that_add_models_at_once_lose_none(stage1: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shutil.copytree(stage1, shared)
    running = []
    for name in ("new1", "new2"):
        (tmp_path / f"{name}.jsonl").write_text('{"prompt": "p", "response": "I am ' + name + '."}')
        command = ["embed-models", str(shared), str(tmp_path / f"{name}.jsonl"), "--model", name]
        running.append(start(command, tmp_path / "cache"))
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert {"new1", "new2"} <= set(Artifact.load(shared).models.names)


def test_blank_responses_are_reported(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("amber-xl", " "), ("silent", ""), ("new", "An answer.")]
    lines = [json.dumps({"prompt": "p", "model": model, "response": response}) for model, response in rows]
    (tmp_path / "r.jsonl").write_text("\n".join(lines))
    output = str(tmp_path / "grown")
    assert run(["embed-models", str(encoder), str(tmp_path / "r.jsonl"), "--output", output, "--json"]) == 0
    value, log = said(capsys)
    assert [row["model"] for row in value["embedded"]] == ["new"]
    assert "2 pairs with an empty prompt or response not used; no embedding for amber-xl, silent" in log


def test_encode_keeps_columns_and_order(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    n_rows = 2500
    table = pa.table(
        {
            "id": list(range(n_rows)),
            "prompt": [f"Prompt {i % 7}" for i in range(n_rows)],
            "model": ["m"] * n_rows,
            "response": ["" if i == 5 else f"Response number {'x' * (i % 11)} {i}." for i in range(n_rows)],
            "tags": [[1, 2]] * n_rows,
        }
    )
    pq.write_table(table, tmp_path / "pairs.parquet")
    output = tmp_path / "vectors.parquet"
    assert run(["encode", str(encoder), str(tmp_path / "pairs.parquet"), "--output", str(output), "--json"]) == 0
    assert said(capsys)[0] == {"output": str(output), "rows": n_rows, "dim": 16}
    written = pq.read_table(output)
    assert written.schema.names == ["id", "prompt", "model", "response", "tags", "embedding"]
    assert written.schema.field("embedding").type == pa.list_(pa.float32(), 16)
    assert written.drop_columns("embedding").equals(table)
    vectors = np.stack(written["embedding"].to_numpy())
    expected = Artifact.load(encoder).encoder.encode(table["prompt"].to_pylist(), table["response"].to_pylist(), 512)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert run(["encode", str(encoder), str(output), "--output", str(tmp_path / "again.parquet")]) == 2
    assert "'embedding' already" in capsys.readouterr().err


def test_encode_leaves_nothing_half_written(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps({"prompt": "p", "response": f"r{i}"}) for i in range(3000)]
    (tmp_path / "pairs.jsonl").write_text("\n".join([*lines, "{broken"]))
    output = tmp_path / "out" / "vectors.parquet"
    output.parent.mkdir()
    output.write_text("what was there before")
    assert run(["encode", str(encoder), str(tmp_path / "pairs.jsonl"), "--output", str(output)]) == 3
    assert "3001" in capsys.readouterr().err
    assert output.read_text() == "what was there before"
    assert list(output.parent.iterdir()) == [output]

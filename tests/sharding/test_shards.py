"""Shards: where a source is cut, that the cut changes nothing, and that a run cut off goes on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior import artifact, catalog
from model_behavior.cli.app import run
from model_behavior.data.loading import load_responses
from model_behavior.data.sources import cut_into_shards, open_rows
from model_behavior.errors import DataError
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.sharding.engines import LocalEngine
from model_behavior.sharding.runs import ShardedRun
from model_behavior.sharding.worker import ShardTask, finished_report, run_shard, run_shard_alone
from tests.sharding.conftest import Material


def nothing(_: int) -> None:
    """Progress that nobody sees."""


@pytest.mark.parametrize("part", [range(3), range(2, 9), range(9, 10), range(0, 10), range(5, 6)])
def test_a_part_of_a_file_is_those_rows_of_it(tmp_path: Path, part: range) -> None:
    table = pa.table({"prompt": [f"p{n}" for n in range(10)], "response": [f"r{n}" for n in range(10)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=4)
    for batch_rows in (1, 3, 100):
        batches = list(open_rows(tmp_path / "t.parquet", part).batches(batch_rows=batch_rows))
        assert pa.Table.from_batches(batches).equals(table.slice(part.start, len(part)))


def test_shards_cover_every_row_once_in_order(tmp_path: Path) -> None:
    for name, n_rows in (("b", 5), ("a", 7)):
        table = pa.table({"prompt": ["p"] * n_rows, "response": ["r"] * n_rows})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    (tmp_path / "c.csv").write_text("prompt,response\np,r\n")
    shards = cut_into_shards(tmp_path, 3)
    assert [(Path(shard.source).name, shard.part) for shard in shards] == [
        *(("a.parquet", range(start, min(start + 3, 7))) for start in (0, 3, 6)),
        *(("b.parquet", range(start, min(start + 3, 5))) for start in (0, 3)),
        ("c.csv", None),
    ]
    assert len({shard.digest for shard in shards}) == 3


def test_the_vectors_are_those_of_the_encoder_whatever_the_shards(material: Material, tmp_path: Path) -> None:
    table = pq.read_table(material.responses)
    loaded = material.loaded
    expected = loaded.encoder.encode(table["prompt"].to_pylist(), table["response"].to_pylist(), 512)
    for shard_rows in (23, 10_000):
        output = tmp_path / f"{shard_rows}.parquet"
        encoding = ShardedRun(material.job("encode"), LocalEngine(loaded), shard_rows)
        report = encoding.over_file(material.responses, output, nothing)
        assert (report.rows, report.used) == (len(table), len(table))
        written = pq.read_table(output)
        assert written.select(table.column_names).equals(table)
        assert written.schema.metadata == table.schema.metadata
        np.testing.assert_allclose(np.stack(written["embedding"].to_numpy()), expected, atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10000.parquet", "23.parquet"]


def test_a_run_that_was_cut_off_goes_on_and_gives_the_same_bytes(material: Material, tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole.parquet", tmp_path / "resumed.parquet"
    encoding = ShardedRun(material.job("encode"), LocalEngine(material.loaded), 30)
    encoding.over_file(material.responses, whole, nothing)

    def stop(done: int) -> None:
        if done > 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoding.over_file(material.responses, resumed, stop)
    work = tmp_path / ".resumed.parquet.shards"
    finished = {path: path.stat().st_ino for path in work.iterdir()}
    assert [path.name for path in sorted(finished)] == ["000000.parquet", "000001.parquet"]

    def check_kept(done: int) -> None:
        if done > 60:
            assert {path: path.stat().st_ino for path in finished} == finished

    encoding.over_file(material.responses, resumed, check_kept)
    assert resumed.read_bytes() == whole.read_bytes()
    assert not work.exists()


def test_a_finished_shard_counts_for_the_same_input_and_artifact_alone(material: Material, tmp_path: Path) -> None:
    (shard,) = cut_into_shards(material.responses, 10_000)
    task = ShardTask(material.job("encode"), shard, tmp_path / "0.parquet")
    assert finished_report(task) is None
    report = run_shard(task, material.loaded)
    assert finished_report(task) == report
    others = (
        replace(task, shard=replace(shard, digest="of another file")),
        replace(task, shard=replace(shard, part=range(5))),
        replace(task, job=replace(task.job, artifact_digest="of another artifact")),
        replace(task, job=replace(task.job, kind="predict")),
    )
    assert [finished_report(other) for other in others] == [None] * 4
    task.output.write_bytes(task.output.read_bytes()[:-10])
    assert finished_report(task) is None


def test_enrolment_in_shards_is_enrolment(material: Material, tmp_path: Path) -> None:
    pairs, _ = load_responses(material.responses)
    loaded = material.loaded
    expected = catalog.enrol(loaded.encoder, pairs, 512)
    enrolment = ShardedRun(material.job("enrol"), LocalEngine(loaded), 1)
    with enrolment.over_pairs(pairs, tmp_path / "out", nothing) as parts:
        found = catalog.enrol_encoded(pairs, parts)
    for name in ("mean", "count", "spread"):
        np.testing.assert_array_equal(getattr(found.models, name), getattr(expected.models, name))
    np.testing.assert_array_equal(found.samples.embedded.vectors, expected.samples.embedded.vectors)
    np.testing.assert_array_equal(found.samples.styles.vectors, expected.samples.styles.vectors)
    assert found.samples.exemplars == expected.samples.exemplars
    assert found.samples.answers == expected.samples.answers
    assert list(tmp_path.iterdir()) == []


def test_a_worker_takes_the_backend_of_the_job(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(StyleEncoder, "use_backend", lambda encoder, backend: asked.append(backend))
    (shard,) = cut_into_shards(material.responses, 10_000)
    job = replace(material.job("encode"), backend="onnxruntime")
    run_shard_alone(ShardTask(job, shard, material.folder.with_name("alone.parquet")))
    assert asked and set(asked) == {"onnxruntime"}


def test_files_of_other_columns_are_refused(material: Material, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    shutil.copy(material.responses, source / "a.parquet")
    table = pq.read_table(material.responses)
    pq.write_table(table.append_column("more", table["model"]), source / "b.parquet")
    encoding = ShardedRun(material.job("encode"), LocalEngine(material.loaded))
    with pytest.raises(DataError, match=r"b\.parquet: its columns differ"):
        encoding.over_file(source, tmp_path / "out.parquet", nothing)


def test_an_address_needs_the_engine(material: Material, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["encode", str(material.folder), str(material.responses), "--output", str(tmp_path / "o.parquet")]
    assert run([*arguments, "--address", "auto"]) == 2
    assert "--engine ray" in capsys.readouterr().err
    assert artifact.fingerprint(material.folder) == artifact.fingerprint(material.folder)

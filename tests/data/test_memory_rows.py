"""Votes and responses from lists of dictionaries, and from tables with the Arrow interface."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior.data.loading import as_responses, as_votes, iter_pairs, load_responses, load_votes
from model_behavior.data.memory_rows import ArrowStream
from model_behavior.data.questions import Matchup, iter_matchups, load_prompts
from model_behavior.data.sources import Source, open_rows
from model_behavior.data_models.votes import LoadReport, Outcome, PairTable, TrainingData
from model_behavior.errors import DataError, UsageError

pd = pytest.importorskip("pandas", minversion="2.2", reason="pandas with the Arrow interface is not installed")

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the sample data are not there: {SHARED}")

VOTE = {"prompt": "p", "model_a": "m", "response_a": "x", "model_b": "n", "response_b": "y", "winner": "model_a"}
ROWS: list[dict[str, Any]] = [
    VOTE,
    {**VOTE, "prompt": "Grüße 😀", "winner": "tie"},
    {**VOTE, "winner": None},
    {**VOTE, "model_b": "m"},
    {**VOTE, "response_b": None},
    {**VOTE, "model_a": "o", "winner": "both_bad"},
]
SKIPPED = {"no outcome": 1, "no response": 1, "same model on both sides": 1}


class OnlyStream:
    """Has nothing but the interface, and counts how often it is asked."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self.asked = 0

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        self.asked += 1
        return self._table.__arrow_c_stream__(requested_schema)


def in_chunks(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.concat_tables(pa.Table.from_pylist([row], pa.Table.from_pylist(rows).schema) for row in rows)


MAKERS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "list of 6 rows": lambda rows: rows,
    "tuple of 6 rows": tuple,
    "DataFrame of 6 rows": pd.DataFrame,
    "Table of 6 rows": in_chunks,
    "RecordBatchReader": lambda rows: in_chunks(rows).to_reader(),
    "OnlyStream": lambda rows: OnlyStream(in_chunks(rows)),
}
any_kind = pytest.mark.parametrize(("name", "make"), MAKERS.items(), ids=MAKERS)


def content(table: PairTable | TrainingData) -> list[Any]:
    pairs = table if isinstance(table, PairTable) else table.pairs
    found = [pairs.prompts.to_pylist(), pairs.models, pairs.responses.to_pylist(), pairs.histories.to_pylist()]
    found += [pairs.prompt_index.tolist(), pairs.model_index.tolist()]
    if isinstance(table, TrainingData):
        found += [table.pair_a.tolist(), table.pair_b.tolist(), table.outcome.tolist()]
    return found


def figures(report: LoadReport | None) -> list[tuple[str, int, int, dict[str, int], tuple[str, ...]]]:
    assert report is not None
    return [(each.format, each.rows, each.used, dict(each.skipped), each.warnings) for each in report.sources]


def from_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@any_kind
def test_votes_are_those_of_a_file(tmp_path: Path, name: str, make: Callable[[list[dict[str, Any]]], Source]) -> None:
    expected, from_disk = load_votes(from_file(tmp_path / "a.jsonl", ROWS))
    votes, report = load_votes(make(ROWS))
    assert content(votes) == content(expected)
    assert votes.outcome.tolist() == [Outcome.MODEL_A, Outcome.TIE, Outcome.BOTH_BAD]
    assert figures(report) == figures(from_disk) == [("plain table", 6, 3, SKIPPED, ())]
    assert report.sources[0].source == name


@any_kind
def test_a_bad_row_is_named_as_in_files(name: str, make: Callable[[list[dict[str, Any]]], Source]) -> None:
    with pytest.raises(DataError) as caught:
        load_votes(make([*ROWS[:5], {**VOTE, "winner": "nobody"}]))
    assert str(caught.value).startswith(f"{name}, row 6: unknown outcome 'nobody' in column winner. Allowed: model_a,")


@any_kind
def test_responses_take_the_name_that_they_lack(
    tmp_path: Path, name: str, make: Callable[[list[dict[str, Any]]], Source]
) -> None:
    rows = [{"prompt": f"p{i}", "response": f"r{i}" if i else None, "note": i} for i in range(6)]
    pairs, report = load_responses(make(rows), model="new")
    assert content(pairs) == content(load_responses(from_file(tmp_path / "a.jsonl", rows), model="new")[0])
    assert pairs.models == ("new",)
    assert figures(report) == [("prompt-response table", 6, 5, {"no response": 1}, ())]
    with pytest.raises(UsageError, match=f"{name}: no column names the model"):
        load_responses(make(rows))
    with pytest.raises(DataError, match=f"{name}: holds responses"):
        load_votes(make(rows))


def test_sources_of_every_kind_are_mixed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    path = from_file(tmp_path / "folder" / "a.jsonl", [{**VOTE, "prompt": "file"}])
    frame = pd.DataFrame([{**VOTE, "prompt": "frame"}] * 2)
    calls: list[tuple[int, int | None]] = []
    votes, report = load_votes(
        frame, str(path.parent), [{**VOTE, "prompt": "list"}], progress=lambda done, all_: calls.append((done, all_))
    )
    assert votes.pairs.prompts.to_pylist() == ["frame", "file", "list"]
    assert [each.source for each in report.sources] == ["DataFrame of 2 rows", str(path), "list of 1 row"]
    assert calls == [(2, None), (3, None), (4, None)]
    calls.clear()
    load_votes(frame, [VOTE], progress=lambda done, all_: calls.append((done, all_)))
    assert calls == [(2, 3), (3, 3)]


MISSING = [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, Decimal("nan")]


@pytest.mark.parametrize("missing", MISSING, ids=repr)
@pytest.mark.parametrize("make", [list, pd.DataFrame])
def test_missing_values_are_no_text(make: Callable[[list[dict[str, Any]]], Source], missing: object) -> None:
    rows: list[dict[str, Any]] = [VOTE, *({**VOTE, column: missing} for column in VOTE)]
    _, report = load_votes(make(rows))
    expected = {"no model name": 2, "no outcome": 1, "no prompt": 1, "no response": 2}
    assert figures(report) == [("plain table", 7, 1, expected, ())]
    source = open_rows(make(rows))
    assert [row for batch in source.batches() for row in batch.to_pylist()] == [
        VOTE,
        *({**VOTE, column: None} for column in VOTE),
    ]


def test_a_numeric_column_of_pandas_is_made_no_text() -> None:
    columns = {"prompt": ["p", "q"], "response": [1.5, math.nan]}
    frame = pd.DataFrame({**columns, "model": pd.array([7, None], "Int64")})
    for source in (frame, pa.table({**columns, "model": [7, None]})):
        pairs, report = load_responses(source)
        assert (pairs.responses.to_pylist(), pairs.models) == (["1.5"], ("7",))
        assert report.sources[0].skipped == {"no response": 1}


def test_index_and_types_of_pandas_do_no_harm() -> None:
    frame = pd.DataFrame(ROWS).astype({"winner": "category", "model_a": "category"})
    frame.index = pd.Index([f"row {number}" for number in range(6)])
    votes, report = load_votes(frame)
    assert "__index_level_0__" in open_rows(frame).columns
    assert content(votes) == content(load_votes(ROWS)[0])
    assert figures(report) == figures(load_votes(ROWS)[1])
    named = frame.set_index("winner")
    assert content(load_votes(named)[0]) == content(votes)
    assert content(load_votes(frame[frame["winner"].notna()].iloc[::-1])[0]) == content(
        load_votes([ROWS[i] for i in (5, 4, 3, 1, 0)])[0]
    )


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string())])
def test_every_arrow_type_of_text(kind: pa.DataType) -> None:
    table = pa.table({column: pa.array([row[column] for row in ROWS], pa.string()).cast(kind) for column in VOTE})
    assert str(table.schema.field("prompt").type) == str(kind)
    for source in (table, table.slice(1), OnlyStream(table)):
        start = 1 if source is not table and not isinstance(source, OnlyStream) else 0
        assert content(load_votes(source)[0]) == content(load_votes(ROWS[start:])[0])


def test_tables_are_read_in_batches_and_asked_once() -> None:
    table = OnlyStream(pa.Table.from_pylist([{**VOTE, "prompt": str(number)} for number in range(2500)]))
    calls: list[tuple[int, int | None]] = []
    votes, _ = load_votes(table, progress=lambda done, all_: calls.append((done, all_)))
    assert calls == [(1024, None), (2048, None), (2500, None)]
    assert votes.pairs.prompts.to_pylist() == [str(number) for number in range(2500)]
    assert table.asked == 1
    source = open_rows(table)
    for _ in range(2):
        assert [batch.num_rows for batch in source.batches(["prompt"], 2000)] == [2000, 500]
    assert table.asked == 3


def test_a_stream_is_read_lazily() -> None:
    made = []

    def batches() -> Any:
        for number in range(5):
            made.append(number)
            yield pa.RecordBatch.from_pylist([{"prompt": str(number), "response": "x"}])

    schema = pa.schema({"prompt": pa.string(), "response": pa.string()})
    reader = pa.RecordBatchReader.from_batches(schema, batches())
    pairs = iter_pairs(reader)
    assert next(pairs)[1] == ["0"]
    assert made == [0]
    assert [texts for _, texts, _ in pairs] == [["1"], ["2"], ["3"], ["4"]]


CONVERSATION = [{"role": "user", "content": "p"}, {"role": "assistant", "content": [{"type": "text", "text": "x"}]}]


def test_conversations_are_lists_of_dictionaries_or_arrays() -> None:
    plain: list[dict[str, Any]] = [{"messages": CONVERSATION, "model": "m"}, {"messages": None, "model": "m"}]
    arrays = [{**plain[0], "messages": np.array(CONVERSATION, dtype=object)}, plain[1]]
    for rows in (plain, arrays):
        pairs, report = load_responses(rows)
        assert content(pairs)[:3] == [["p"], ("m",), ["x"]]
        assert figures(report) == [("chat log", 2, 1, {"no prompt": 1}, ())]
    texts = [{"role": "user", "content": "0"}, {"role": "assistant", "content": "1"}]
    frame = pd.DataFrame({"messages": [np.array(texts, dtype=object)], "model": ["m"]})
    assert content(load_responses(frame)[0])[:3] == [["0"], ("m",), ["1"]]


def test_values_of_numpy_and_of_the_library_count() -> None:
    rows = [
        {**VOTE, "winner": Outcome.BOTH_BAD, "prompt": np.str_("p")},
        {**VOTE, "winner": Outcome.MODEL_A, "prompt": np.int64(7)},
        {**VOTE, "winner": Outcome.MODEL_B, "prompt": Decimal("0.5")},
    ]
    votes, _ = load_votes(rows)
    assert votes.outcome.tolist() == [Outcome.BOTH_BAD, Outcome.MODEL_A, Outcome.MODEL_B]
    assert votes.pairs.prompts.to_pylist() == ["p", "7", "0.5"]


def test_rows_may_lack_keys_and_bring_others() -> None:
    rows: list[dict[str, Any]] = [{**VOTE}, {**VOTE, "extra": object()}]
    del rows[0]["winner"]
    votes, report = load_votes(rows)
    assert len(votes) == 1
    assert report.sources[0].skipped == {"no outcome": 1}
    assert [batch.schema.names for batch in open_rows([{"a": 1}, {"b": "x"}]).batches()] == [["a", "b"]]


def test_batches_of_a_list_are_those_of_json(tmp_path: Path) -> None:
    rows = [{"i": 1, "mixed": 1, "nested": [1, {"a": "é"}]}, {"i": 2, "mixed": "two", "nested": None, "late": 0.5}]
    for batch_rows in (1, 9):
        expected = list(open_rows(from_file(tmp_path / "a.jsonl", rows)).batches(batch_rows=batch_rows))
        assert list(open_rows(rows).batches(batch_rows=batch_rows)) == expected


def test_prompts_and_matchups_from_memory() -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "p", "model_a": "m", "model_b": "n"},
        {"prompt": None, "model_a": "m", "model_b": "n"},
    ]
    for source in (rows, pd.DataFrame(rows, index=[3, 5])):
        assert load_prompts(source)[0] == ["p"]
        assert [each for _, found in iter_matchups(source) for each in found] == [Matchup("p", "m", "n"), None]
    with pytest.raises(DataError, match="list of 1 row: no prompt in it"):
        load_prompts([{"prompt": ""}])


def test_ready_made_objects_pass_through() -> None:
    votes, _ = load_votes(ROWS)
    assert as_votes(votes) == (votes, None)
    assert as_responses(votes) == (votes.pairs, None)
    assert as_responses(votes.pairs) == (votes.pairs, None)
    own, _ = load_responses([{"prompt": "p", "response": "x"}], model="new")
    assert as_responses(own, model=" new ") == (own, None)
    with pytest.raises(UsageError, match="the responses are of m, n, o already, but model='new' was given"):
        as_responses(votes, model="new")


def test_one_source_or_several(tmp_path: Path) -> None:
    path = from_file(tmp_path / "a.jsonl", ROWS)
    frame = pd.DataFrame(ROWS)
    for one in (path, str(path), ROWS, tuple(ROWS), frame, [path], [ROWS], [frame]):
        votes, report = as_votes(one)
        assert figures(report) == [("plain table", 6, 3, SKIPPED, ())]
        assert content(as_responses(one)[0]) == content(load_responses(ROWS)[0])
        assert content(votes) == content(load_votes(ROWS)[0])
    votes, report = as_votes([str(path), frame, ROWS])
    assert figures(report) == [("plain table", 6, 3, SKIPPED, ())] * 3
    assert len(votes) == 9
    pairs, _ = as_responses([pd.DataFrame({"prompt": ["p"], "response": ["x"]})], model="new")
    assert pairs.models == ("new",)


NO_SOURCES: list[tuple[Any, str]] = [
    ([], r"the list is empty\. Allowed: one dictionary per row, as in"),
    (pd.DataFrame(), r"DataFrame of 0 rows: there are columns \(\) but no row"),
    (pd.DataFrame(ROWS)[:0], r"DataFrame of 0 rows: there are columns \(prompt, model_a, .*\) but no row"),
    ([VOTE, "a.csv"], r"list of 2 rows, row 2: 'a\.csv' is not a dictionary\. .* Fix: give several files or tables as"),
    ([VOTE, {**VOTE, 7: 1}], r"list of 2 rows: the key 7 is not text"),
    ([{**VOTE, "winner": object()}], r"list of 1 row, row 1: winner is <object .*>\. Allowed: text, numbers"),
    ([{**VOTE, "prompt": b"p"}], r"list of 1 row, row 1: prompt is b'p'\. Allowed: text, numbers"),
    (VOTE, r"\(dict\) is no source of rows\. .* a list with one dictionary per row, .* as \[row\] and list\(rows\) do"),
    ((row for row in ROWS), r"\(generator\) is no source of rows"),
    (None, r"None \(NoneType\) is no source of rows"),
    (b"a.csv", r"b'a\.csv' \(bytes\) is no source of rows"),
    (json.dumps(ROWS), r"cannot be a path \(File name too long\)\. Fix: to give rows rather than a path, make them a"),
    ('[{"prompt": "p"}]', r"there is no such file\. Fix: to give rows rather than a path, make them a list of"),
    ("Name a prime.", r"Name a prime\.: there is no such file"),
    (pd.Series(["p"]), r"Series of 1 row: cannot be read as an Arrow table .*non-struct type.*Allowed: a table"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), r"cannot be read as an Arrow table .*Duplicate column names"),
    (pa.table([[1], [2]], ["a", "a"]), r"Table of 1 row: the column 'a' is there more than once"),
    (pd.DataFrame({"prompt": ["p", 1]}), r"Conversion failed for column prompt.* Fix: give the rows as a list of"),
    (
        pd.DataFrame({"x": [1]}, index=["a"]),
        r"DataFrame of 1 row: unknown format\. Columns found: x, __index_level_0__",
    ),
]


@pytest.mark.parametrize(("source", "message"), NO_SOURCES, ids=[str(index) for index in range(len(NO_SOURCES))])
def test_what_is_no_source_is_refused_clearly(source: Any, message: str) -> None:
    for read in (as_votes, as_responses):
        with pytest.raises(DataError, match=message):
            read(source)


def test_a_list_of_paths_goes_to_the_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # messages shorten a long path
    from_file(tmp_path / "a.jsonl", ROWS)
    path: Any = ["a.jsonl"]
    with pytest.raises(DataError, match=r"row 1: 'a\.jsonl' is not a dictionary.* Fix: give several files or tables"):
        load_votes(path)
    with pytest.raises(UsageError, match=r"no source was given\. Allowed: files, .* lists of dictionaries, and Data"):
        load_votes()


def test_a_stream_that_breaks_off_is_an_error() -> None:
    def batches() -> Any:
        yield pa.RecordBatch.from_pylist([VOTE])
        raise OSError("the connection is gone")

    reader = pa.RecordBatchReader.from_batches(pa.Table.from_pylist([VOTE]).schema, batches())
    with pytest.raises(DataError, match=r"RecordBatchReader: cannot be read as an Arrow table .*connection is gone"):
        load_votes(reader)


def test_a_stream_that_was_read_before_is_an_error() -> None:
    reader = pa.Table.from_pylist(ROWS).to_reader()
    load_votes(reader)
    with pytest.raises(DataError, match=r"RecordBatchReader: there is no row .*Fix: .* a stream can be read once"):
        load_votes(reader)


def test_the_interface_is_recognised() -> None:
    frames: list[ArrowStream] = [pd.DataFrame(), pa.table({}), OnlyStream(pa.table({}))]
    assert all(isinstance(frame, ArrowStream) for frame in frames)
    others: list[object] = [[], "a.csv", {}, None]
    assert not any(isinstance(other, ArrowStream) for other in others)


def test_the_example_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    from_file(tmp_path / "more_votes.jsonl", ROWS)
    page = (ROOT / "docs" / "reference" / "formats.md").read_text("utf-8")
    section = page.split("## From Python: lists and DataFrames")[1]
    (example,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "formats.md", "exec"), names)
    assert (len(names["votes"]), names["responses"].models) == (5, ("new-model",))


@needs_shared
@pytest.mark.parametrize("name", ["votes_graded.parquet", "formats/arena_human_preference_140k.parquet"])
def test_published_votes_are_the_same_from_memory(name: str) -> None:
    expected, from_disk = load_votes(SHARED / name)
    table = pq.read_table(SHARED / name)
    for source in (table.to_pandas(), table, table.to_pylist()):
        votes, report = load_votes(source)
        assert content(votes) == content(expected)
        assert figures(report) == figures(from_disk)


@needs_shared
def test_kaggle_as_pandas_reads_it() -> None:
    path = SHARED / "formats" / "arena_human_preference_55k.csv"
    expected, from_disk = load_votes(path)
    votes, report = load_votes(pd.read_csv(path))
    assert content(votes) == content(expected)
    assert figures(report) == figures(from_disk)

"""Every way in which a file can be broken, with the message that a user sees."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_behavior.data.loading import load_votes
from model_behavior.errors import DataError, ModelBehaviorError

HEADER = "prompt,model_a,response_a,model_b,response_b,winner\n"
GOOD = "p,m,x,n,y,model_a\n"
VOTE = {"prompt": "p", "model_a": "m", "response_a": "x", "model_b": "n", "response_b": "y", "winner": "tie"}
LINE = json.dumps(VOTE) + "\n"


def parquet(rows: int = 50) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([VOTE] * rows), sink)
    return bytes(sink.getvalue().to_pybytes())


def parquet_with(**columns: pa.Array) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist([VOTE] * 3)
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def bad_text() -> pa.Array:
    offsets, values = pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffb")
    return pa.Array.from_buffers(pa.string(), 3, [None, offsets, values])


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


CASES: list[tuple[str, bytes, str]] = [
    (
        "votes.txt",
        b"x",
        r"votes\.txt: unknown file type '\.txt'\. Allowed: \.csv, \.tsv, .*\.parquet, each also with",
    ),
    ("votes", b"x", r"votes: unknown file type '\(no extension\)'\. Allowed: \.csv"),
    ("a.csv", b"", r"a\.csv: the file is empty\. Allowed: a header line and at least one row\."),
    ("b.csv", HEADER.encode(), r"b\.csv: there is a header \(prompt, model_a, .*winner\) but no row\."),
    ("c.csv", b"\n\n\n", r"c\.csv: the file is empty"),
    (
        "d.csv",
        (HEADER + GOOD + "p,m,x, more,n,y,model_b\n").encode(),
        r"d\.csv, row 2 \(line 3\): 7 values, but the header has 6 columns\. The row begins 'p,m,x, more,n,y.*'\. Fix:",
    ),
    ("e.csv", (HEADER + "p,m\n").encode(), r"e\.csv, row 1 \(line 2\): 2 values, but the header has 6 columns"),
    (
        "f.csv",
        (HEADER + '"a\nb",m,x,n,y,tie\n' + 'p,m,"never closed,n,y,tie\n').encode(),
        r"f\.csv, row 2 \(line 4\): not valid CSV \(a double quote is opened and never closed\)",
    ),
    ("g.csv", (HEADER + 'p,m,"x"y,n,y,tie\n').encode(), r"g\.csv, row 1 \(line 2\): not valid CSV"),
    (
        "h.csv",
        (HEADER + GOOD + "p,m,caf\u00e9,n,y,tie\n").encode("latin-1"),
        r"h\.csv, line 3: the byte 0xe9 is not UTF-8 \(near b'p,m,caf\\xe9,n,y,tie.*Allowed: UTF-8\. "
        r"Fix, where the file is Latin-1: iconv -f LATIN1",
    ),
    ("i.csv", (HEADER + GOOD).encode("utf-16"), r"i\.csv: this is a UTF-16 text file\. Fix: iconv -f UTF-16"),
    ("i32.csv", (HEADER + GOOD).encode("utf-32"), r"i32\.csv: this is a UTF-32 text file\. Fix: iconv -f UTF-32"),
    (
        "cr.csv",
        (HEADER + GOOD).replace("\n", "\r").encode(),
        r"cr\.csv: lines end in a carriage return alone\. Fix: tr",
    ),
    (
        "nan.json",
        b'[{"prompt": "p", "winner": NaN}]',
        r"nan\.json, row 1: not valid JSON \(NaN and Infinity are no JSON: write null instead",
    ),
    ("j.csv", (HEADER + GOOD).encode("utf-16-le"), r"j\.csv, line 1: holds a null byte \(0x00\)\. .*UTF-16"),
    ("k.csv", (HEADER + "p,m,\0,n,y,tie\n").encode(), r"k\.csv, line 2: holds a null byte"),
    (
        "l.csv",
        (HEADER + GOOD).replace(",", ";").encode(),
        r"l\.csv: the header 'prompt;.* looks separated by ';'",
    ),
    ("m.csv", b"prompt,prompt\na,b\n", r"m\.csv: the column 'prompt' is there more than once"),
    (
        "n.csv",
        (HEADER + GOOD + "p,m,x,n,y,tiebreak\n").encode(),
        r"n\.csv, row 2: unknown outcome 'tiebreak' in column winner\. Allowed: model_a, model_b, tie, .*Fix:"
        r".*--outcome tiebreak=model_a",
    ),
    (
        "o.csv",
        (HEADER + "p,m,x,m,y,tie\n" + "p,m,x,n,y,\n").encode(),
        r"o\.csv: none of its 2 rows can be used \(plain table; no outcome: 1, same model on both sides: 1\)\. Fix:",
    ),
    (
        "p.csv",
        b"id,prompt,response_a,response_b\n1,a,b,c\n",
        r"p\.csv: this is the test file without model names",
    ),
    (
        "q.csv",
        gzip.compress(HEADER.encode()),
        r"q\.csv: this is compressed with gzip\. Fix: add \.gz to the file name",
    ),
    ("r.csv", parquet(), r"r\.csv: this is a Parquet file\. Fix: rename it to end in \.parquet"),
    ("s.csv", b"PK\x03\x04rest", r"s\.csv: this is a ZIP archive or a spreadsheet"),
    (
        "t.csv",
        b"version https://git-lfs.github.com/spec/v1\n",
        r"t\.csv: this is a Git LFS pointer.*git lfs pull",
    ),
    (
        "a.csv.gz",
        gzip.compress(HEADER.encode())[:-9],
        r"a\.csv\.gz: cannot be decompressed as gzip .*cut off or damaged",
    ),
    ("b.csv.gz", b"not gzip at all", r"b\.csv\.gz: cannot be decompressed as gzip"),
    ("a.jsonl.zst", zstd(LINE.encode() * 9)[:-4], r"a\.jsonl\.zst: cannot be decompressed as zstd"),
    ("b.jsonl.zst", b"not zstd at all", r"b\.jsonl\.zst: cannot be decompressed as zstd"),
    (
        "a.jsonl",
        b"",
        r"a\.jsonl: the file holds no rows\. Allowed: an array of objects, or one object per line\.",
    ),
    (
        "b.jsonl",
        (LINE + '{"prompt": nope}\n' + LINE).encode(),
        r"b\.jsonl, line 2: not valid JSON \(Expecting value.*column 12.*\): '\{\"prompt\": nope\}'\. Allowed:",
    ),
    (
        "c.jsonl",
        (LINE + LINE[:40]).encode(),
        r"c\.jsonl, line 2: not valid JSON .*It is the last line: is the file complete\?",
    ),
    (
        "d.jsonl",
        (LINE + "7\n").encode(),
        r"d\.jsonl, line 2: 7 is not an object\. Allowed: an array of objects",
    ),
    ("e.jsonl", (LINE + LINE.replace("tie", "drawn")).encode(), r"e\.jsonl, row 2: unknown outcome 'drawn'"),
    ("f.jsonl", LINE.encode() + b'{"a": "\xff"}\n', r"f\.jsonl, line 2: the byte 0xff is not UTF-8"),
    ("h.jsonl", b'{"a": ' * 200_000 + b"\n", r"h\.jsonl, line 1: nested deeper than 128 levels"),
    ("a.json", b"[]", r"a\.json: the file holds no rows"),
    ("b.json", b'"text"', r"b\.json, line 1: 'text' is not an object\. Allowed: an array of objects"),
    ("c.json", b"[1, 2]", r"c\.json, row 1: 1 is not an object"),
    (
        "d.json",
        json.dumps([VOTE] * 3).encode()[:-30],
        r"d\.json, row 3: not valid JSON \(parse error: premature EOF",
    ),
    ("e.json", b"[" + LINE.encode() + b',{"a": nope}]', r"e\.json, row 2: not valid JSON \(lexical error"),
    ("f.json", b"[" + LINE.encode() + b',{"a": "\xe9"}]', r"f\.json, row 2: the byte 0xe9 is not UTF-8"),
    ("g.json", b"[" + LINE.encode() + b',{"a": "\0"}]', r"g\.json, row 2: holds a null byte"),
    ("h.json", json.dumps([VOTE]).encode("utf-16"), r"h\.json: this is a UTF-16 text file"),
    (
        "i.json",
        json.dumps(VOTE, indent=1).encode()[:-9],
        r"i\.json, row 1: not valid JSON .*Allowed: an array of objects.*complete",
    ),
    ("a.parquet", b"", r"a\.parquet: the file is empty\. Allowed: a Parquet file"),
    ("b.parquet", LINE.encode(), r"b\.parquet: not a Parquet file: it begins with b'\{\"prompt\"?"),
    (
        "c.parquet",
        parquet()[:-20],
        r"c\.parquet: a Parquet file that is cut off or damaged\. Fix: copy or download",
    ),
    ("d.parquet", parquet(0), r"d\.parquet: there are columns \(.*\) but no row|d\.parquet: not"),
    ("e.parquet", b"version https://git-lfs.github.com/spec/v1", r"e\.parquet: a Git LFS pointer"),
    (
        "f.parquet",
        parquet_with(response_a=bad_text()),
        r"f\.parquet, row 2, column 'response_a': b'\\xff' is not UTF-8",
    ),
    (
        "g.parquet",
        parquet_with(winner=pa.array([0, 1, 2])),
        r"g\.parquet, row 1: unknown outcome 0 in column winner",
    ),
    ("h.parquet", parquet_with(model_a=pa.array([[1]] * 3)), r"h\.parquet, row 1: model_a is \[1\]\. Allowed"),
    ("i.parquet.gz", gzip.compress(parquet())[:-9], r"i\.parquet\.gz: cannot be decompressed as gzip"),
    ("j.parquet.zst", zstd(LINE.encode() * 99), r"j\.parquet\.zst: .*damaged"),
]


@pytest.mark.parametrize(("name", "content", "message"), CASES, ids=[name for name, _, _ in CASES])
def test_broken_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_votes(path)
    shown = str(caught.value)
    assert shown.startswith(str(path))
    assert re.search(message, shown, re.DOTALL), shown
    assert len(shown) < 900


def test_a_missing_file_lists_near_names(tmp_path: Path) -> None:
    (tmp_path / "votes_2024.csv").write_text(HEADER + GOOD)
    with pytest.raises(DataError) as caught:
        load_votes(tmp_path / "vote_2024.csv")
    assert str(caught.value) == (
        f"{tmp_path / 'vote_2024.csv'}: there is no such file. Near names there: votes_2024.csv. Fix: check the path."
    )


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file, and no folder .*nowhere\. Fix: check the path\."):
        load_votes(tmp_path / "nowhere" / "a.csv")


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("no data")
    with pytest.raises(DataError, match=r"the folder holds no data file\. Allowed: \.csv"):
        load_votes(tmp_path)


def test_responses_among_votes_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + GOOD)
    (tmp_path / "b.csv").write_text("prompt,response\np,x\n")
    with pytest.raises(DataError, match=r"b\.csv: holds responses \(prompt-response table\), but votes are needed"):
        load_votes(tmp_path / "a.csv", tmp_path / "b.csv")


def test_no_source_is_an_error() -> None:
    with pytest.raises(ModelBehaviorError, match="no source was given"):
        load_votes()

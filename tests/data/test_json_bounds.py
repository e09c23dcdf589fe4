"""Bounds that hold before a parser sees JSON, against a parser's own view of the same value."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_behavior.data.json_bounds import MAX_DEPTH, MAX_DIGITS, MAX_KEY_BYTES, JsonBounds
from model_behavior.data.loading import load_responses
from model_behavior.errors import DataError

TEXTS = st.text(st.sampled_from('a"\\{[]}:,1 \n'), max_size=14)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(TEXTS, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


def is_within(text: bytes, cuts: list[int]) -> bool:
    bounds, start = JsonBounds("x"), 0
    try:
        for size in [*cuts, len(text), 1]:
            bounds.check(text[start : start + size])
            start += size
    except DataError:
        return False
    return True


def wrapped(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = [value]
    return value


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max([0, *map(depth, inner)])


@settings(max_examples=300, deadline=None)
@given(VALUES, st.lists(st.integers(1, 9), max_size=40), st.integers(0, 6))
def test_depth_is_what_a_parser_finds(value: Any, cuts: list[int], more: int) -> None:
    value = wrapped(value, MAX_DEPTH - 5 + more)
    assert is_within(json.dumps(value).encode(), cuts) == (depth(value) <= MAX_DEPTH)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(st.integers(1, 2000), max_size=20), st.integers(-3, 3))
def test_numbers_and_keys_are_measured_outside_of_texts(text: str, cuts: list[int], more: int) -> None:
    digits, key = "1" * (MAX_DIGITS + more), "k" * (MAX_KEY_BYTES + more)
    assert is_within(f'[{json.dumps(text)}, {digits}, {{"a": -0.5}}]'.encode(), cuts) == (more <= 0)
    assert is_within(f'[{json.dumps(text)}, {{"{key}" : 1}}]'.encode(), cuts) == (more <= 0)
    assert is_within(json.dumps([text, digits * 3, key * 2, {"a": key * 2}]).encode(), cuts)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("digits.json", '[{"prompt": "p", "response": "r", "n": ' + "1" * 4400 + "}]"),
        ("printed.json", '{\n"rows": [{"prompt": "p", "response": "r", "n": ' + "1" * 4400 + "}]}"),
        ("nested.json", "[" * 100_000 + "]" * 100_000),
        ("objects.json", '{"a":\n' * 100_000 + "1" + "}" * 100_000),
        ("nested.jsonl", '{"prompt": "p", "response": "r", "n": ' + "[" * 500 + "]" * 500 + "}\n"),
        ("key.json", '[{"' + "k" * 1_000_000 + '": 1}]'),
        ("columns.json", json.dumps([{f"k{i}": 1 for i in range(20_000)}])),
        ("surrogate.json", '[{"prompt": "p", "response": "r\\udfff"}]'),
    ],
)
def test_what_ends_a_parser_never_reaches_it(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=r"digits|nested|key|columns|surrogate|half of a pair") as caught:
        load_responses(tmp_path / name, model="m")
    assert name in str(caught.value) or "columns" in str(caught.value)


def test_the_scan_is_linear() -> None:
    def seconds(make: Callable[[int], bytes], n: int) -> float:
        text, bounds = make(n), JsonBounds("x")
        started = time.process_time()
        for start in range(0, len(text), 1 << 16):
            bounds.check(text[start : start + (1 << 16)])
        return time.process_time() - started

    makers: tuple[Callable[[int], bytes], ...] = (
        lambda n: b'"' * n,
        lambda n: b"\\" * n,
        lambda n: b'{"a":"' + b"x" * n + b'"}',
        lambda n: b"1," * n,
        lambda n: b"[]" * n,
    )
    for make in makers:
        assert seconds(make, 1_600_000) < 8 * seconds(make, 400_000) + 0.1

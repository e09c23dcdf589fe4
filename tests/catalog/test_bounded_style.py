from __future__ import annotations

import numpy as np

from model_behavior.catalog.bounded_style import fit_bounded_style
from model_behavior.models.behavior.text.style import StyleEncoder

NAMES = StyleEncoder.feature_names
N_MODELS, N_EACH = 8, 60


def test_one_feature_can_only_say_so_much_and_the_shift_is_named() -> None:
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(N_MODELS), N_EACH)
    places = rng.normal(0, 0.5, (N_MODELS, len(NAMES)))
    known = fit_bounded_style(places[owner] + rng.normal(size=(len(owner), len(NAMES))), owner, N_MODELS + 1)
    plain = places[3] + rng.normal(0, 32**-0.5, len(NAMES))
    ratios = known.ratios(plain[None], 32)[0]
    assert np.isneginf(ratios[N_MODELS])  # a model without responses
    assert ratios.argmax() == 3
    emoji = NAMES.index("ends_with_emoji")
    for far in (1.5, 3.0):  # standardised features lie within -2 and 2
        shifted = plain.copy()
        shifted[emoji] += far
        found = known.ratios(shifted[None], 32)[0]
        assert found.argmax() == 3
        assert ratios[3] - found[3] < 10  # Gaussian evidence would weigh hundreds
        _, odd = known.explain(shifted, 3, 32)
        assert odd[0] == "more: ends with an emoji (% of responses)"
    convinced, _ = known.explain(plain, 3, 32)
    assert convinced

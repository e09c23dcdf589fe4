"""How precise the rating of a model without votes is, and what more responses would make of it.

The variance of such a rating has a part that falls with the number of responses, and a rest that does not
(`rating_reader`). The half width of the 95 % interval after n responses is therefore

    1.96 sqrt(variance - s(now) + s(n)),

with s as in `RatingReader.sampling_variance`, and never below the floor, where s is 0. The place of the embedding is
taken to stay where it is now, so that this is what to expect, not a promise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from model_behavior.arrays import Float64Array, IntArray
from model_behavior.errors import UsageError
from model_behavior.models.scoring.model_base import NORMAL_QUANTILE

_MOST = 10_000_000
_WITHIN_REACH = 1.1


@dataclass(frozen=True)
class RatingPrecision:
    """The precision of one rating.

    Attributes:
        rating: rating as `rank` gives it.
        variance: variance of the rating.
        responses: number of responses that it rests on.
        sampling_variance: part of `variance` that falls with the number of responses, to 0.
        shared: share of the responses that could be compared with voted models' answers to the same prompt, in [0, 1].
        beyond: 1 where the responses look better than those of every known model, -1 where they look worse, else 0.
    """

    rating: float
    variance: float
    responses: int
    sampling_variance: Callable[[IntArray], Float64Array]
    shared: float = 0.0
    beyond: int = 0

    @property
    def half_width(self) -> float:
        """Half width of the 95 % interval as it is."""
        return self.half_width_after(self.responses)

    @property
    def floor(self) -> float:
        """Half width with endlessly many responses; only votes take it further down."""
        return float(NORMAL_QUANTILE * np.sqrt(self._lasting))

    @property
    def within_reach(self) -> float:
        """A tenth above the floor: the half width that is worth more responses."""
        return _WITHIN_REACH * self.floor

    def half_width_after(self, responses: int) -> float:
        """Half width to expect from that many responses altogether, at least 1."""
        return float(NORMAL_QUANTILE * np.sqrt(self._lasting + self._sampling(responses)))

    def responses_needed(self, half_width: float) -> int | None:
        """How many more responses bring the half width down to this; None where no number does.

        Raises:
            UsageError: a half width that is not above 0.
        """
        if not half_width > 0:
            raise UsageError(f"half_width={half_width}: must be above 0, such as 0.5")
        if self.half_width <= half_width:
            return 0
        low, high = self.responses, 2 * self.responses
        while self.half_width_after(high) > half_width:
            if high > _MOST:
                return None
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.half_width_after(middle) > half_width else (low, middle)
        return high - self.responses

    @property
    def _lasting(self) -> float:
        return max(self.variance - self._sampling(self.responses), 0.0)

    def _sampling(self, responses: int) -> float:
        return float(self.sampling_variance(np.array([responses]))[0])

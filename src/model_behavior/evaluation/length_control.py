"""What remains of an accuracy on votes when the length of the responses is controlled for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_behavior.data_models.scoring_types import STYLE_COLUMNS, FloatArray, ScoringVotes
from model_behavior.data_models.votes import Outcome
from model_behavior.evaluation.figures import Figure, bootstrap_prompts
from model_behavior.models.scoring.outcomes import decided_hits

MATCHED_RATIO = 1.1
"""Two responses are matched where the longer has at most so many times the characters of the shorter."""

_REPLICATES = 200
_LENGTH = STYLE_COLUMNS.index("length")


@dataclass(frozen=True)
class LengthControl:
    """Accuracy on decided votes, by the lengths of the two responses.

    Attributes:
        matched: where the lengths differ by at most 10 %, so that length says next to nothing.
        longer_won: where the winner is the longer one.
        shorter_won: where it is the shorter one.
        balanced: the mean of the two before: 0.5 for whoever goes by length alone.
    """

    matched: Figure
    longer_won: Figure
    shorter_won: Figure
    balanced: Figure


def control_length(
    hits: npt.NDArray[np.floating],
    winner_length: npt.NDArray[np.floating],
    loser_length: npt.NDArray[np.floating],
    prompt: npt.NDArray[np.integer],
    seed: int = 0,
) -> LengthControl:
    """Divides decided votes by length.

    Args:
        hits: 1 where the vote is called rightly, 0 where wrongly, 1/2 for a draw, [n_votes].
        winner_length: characters, [n_votes].
        loser_length: characters, [n_votes].
        prompt: the cluster of the intervals, [n_votes].
        seed: of the bootstrap.
    """
    longer, shorter = winner_length > loser_length, winner_length < loser_length
    ratio = np.abs(np.log1p(winner_length) - np.log1p(loser_length))

    def balanced(rows: npt.NDArray[np.int64]) -> float:
        return (_mean(hits[rows[longer[rows]]]) + _mean(hits[rows[shorter[rows]]])) / 2

    unequal = np.flatnonzero(longer | shorter)
    low, high = _interval(prompt, unequal, balanced, seed)
    return LengthControl(
        matched=_share(hits, ratio <= np.log(MATCHED_RATIO), prompt, seed),
        longer_won=_share(hits, longer, prompt, seed),
        shorter_won=_share(hits, shorter, prompt, seed),
        balanced=Figure(balanced(unequal), low, high, len(unequal)),
    )


def control_predictions(probabilities: FloatArray, votes: ScoringVotes, seed: int = 0) -> LengthControl:
    """The same for predictions of votes, of which the decided ones count.

    Args:
        probabilities: [n_votes, 4].
        votes: with style.
        seed: of the bootstrap.
    """
    assert votes.style_a is not None and votes.style_b is not None
    hits, decided = decided_hits(probabilities, votes.outcome)
    left_won = votes.outcome[decided] == Outcome.MODEL_A
    left, right = (style[decided, _LENGTH].astype(np.float64) for style in (votes.style_a, votes.style_b))
    winner, loser = np.where(left_won, left, right), np.where(left_won, right, left)
    return control_length(hits[decided], winner, loser, votes.prompt_index[decided], seed)


def _share(
    hits: npt.NDArray[np.floating], chosen: npt.NDArray[np.bool_], prompt: npt.NDArray[np.integer], seed: int
) -> Figure:
    rows = np.flatnonzero(chosen)
    low, high = _interval(prompt, rows, lambda drawn: _mean(hits[drawn]), seed)
    return Figure(_mean(hits[rows]), low, high, len(rows))


def _interval(
    prompt: npt.NDArray[np.integer],
    rows: npt.NDArray[np.int64],
    measure: Callable[[npt.NDArray[np.int64]], float],
    seed: int,
) -> tuple[float, float]:
    if not len(rows) or not np.isfinite(measure(rows)):
        return float("nan"), float("nan")
    return bootstrap_prompts(prompt[rows], lambda drawn: measure(rows[drawn]), _REPLICATES, np.random.default_rng(seed))


def _mean(values: npt.NDArray[np.floating]) -> float:
    return float(values.mean()) if len(values) else float("nan")

"""The vote term: quality as a linear read-out of the embedding."""

from __future__ import annotations

import torch
from torch.nn import functional


def vote_logistic_loss(
    winner: torch.Tensor, loser: torch.Tensor, tied: tuple[torch.Tensor, torch.Tensor] | None = None
) -> torch.Tensor:
    """V = sum over votes of -y log p - (1 - y) log(1 - p), over the number of votes; p = 1 / (1 + exp(s_b - s_a)).

    The Bradley-Terry model (Bradley and Terry 1952). A decided vote has y = 1 for its winner a. A tie counts as half a
    win of each side, y = 1/2 (as a draw does in Elo 1978), and holds the two scores together.

    Args:
        winner: scores (log-odds) of the winning side of decided votes, [n]; `loser` those of the other side.
        tied: scores of the two sides of ties, [m] each. A tie stands in it twice, once from either side, as it gives
            two triplets; each counts as half a vote. None leaves ties out.

    Returns:
        A scalar, 0 without votes.
    """
    total, n_votes = functional.softplus(loser - winner).sum(), float(len(winner))
    if tied is not None:
        difference = tied[0] - tied[1]
        half_wins = (functional.softplus(difference) + functional.softplus(-difference)) / 2
        total, n_votes = total + half_wins.sum() / 2, n_votes + len(difference) / 2
    return total / n_votes if n_votes else total

"""What few known models of few families leave open about a new one."""

from __future__ import annotations

REACH = 1.5
"""Variance between new models in units of that between the known ones: a new model may lie further out than they do.

How far an average of few responses is drawn to the middle of the known models follows from this (decision 0028).
"""


def widening(n_families: int) -> float:
    """Variance of Student's t: a variance that was estimated from few families is itself uncertain."""
    return n_families / (n_families - 2) if n_families > 2 else 3.0

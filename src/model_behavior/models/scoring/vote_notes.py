"""What a person should know of votes before they believe ratings from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model_behavior.arrays import BoolArray, Int64Array
from model_behavior.data_models.scoring_types import ScoringVotes
from model_behavior.data_models.votes import Outcome
from model_behavior.models.scoring.bradley_terry import count_votes, find_components

_SHOWN = 10


def describe_votes(votes: ScoringVotes) -> tuple[str, ...]:
    """One sentence for each thing that makes ratings say less than they seem to; `describe_islands` has one more."""
    notes = [_describe_outcomes(votes)]
    if len(votes.prompts) == 1:
        notes.append("all votes are on one prompt, so that nothing is known of how ratings depend on prompts")
    decided = votes.outcome <= Outcome.MODEL_B
    a_won = votes.outcome == Outcome.MODEL_A
    n_models = len(votes.models)
    winner = np.where(a_won, votes.model_a, votes.model_b)[decided]
    loser = np.where(a_won, votes.model_b, votes.model_a)[decided]
    won, lost = np.bincount(winner, minlength=n_models) > 0, np.bincount(loser, minlength=n_models) > 0
    why = "the prior alone keeps the rating finite"
    notes.append(_name(votes, won & ~lost, f"never beaten, so that {why}"))
    notes.append(_name(votes, lost & ~won, f"never won, so that {why}"))
    return tuple(note for note in notes if note)


def describe_islands(votes: ScoringVotes) -> str:
    """Which models no chain of votes connects; "" where all are connected."""
    component = find_components(votes)
    n_components = int(component.max()) + 1
    if n_components == 1:
        return ""
    of_votes = np.bincount(component[votes.model_a], minlength=n_components)
    parts = [
        f"\n  {number}: {int(of_votes[number]):,} votes between {_list(_names(votes, component == number))}"
        for number in range(n_components)
    ]
    return (
        f"no chain of votes connects {n_components} groups of models, so that each is rated by itself:{''.join(parts)}"
    )


def _describe_outcomes(votes: ScoringVotes) -> str:
    found = np.unique(votes.outcome)
    return f"every vote is {Outcome(int(found[0])).label}" if len(found) == 1 else ""


def _name(votes: ScoringVotes, chosen: BoolArray, what: str) -> str:
    counts: Int64Array = count_votes(votes)
    named = [f"{votes.models[row]} ({counts[row]:,} votes)" for row in np.flatnonzero(chosen)]
    return f"{what}: {_list(named)}" if named else ""


def _names(votes: ScoringVotes, chosen: BoolArray) -> list[str]:
    return [votes.models[row] for row in np.flatnonzero(chosen)]


def _list(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest:,} others" if rest > 0 else "")

"""Stage 2 figures of a saved scoring model on votes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model_behavior.arrays import Int64Array
from model_behavior.data_models.scoring_types import STYLE_COLUMNS, ScoringVotes
from model_behavior.data_models.votes import Outcome
from model_behavior.evaluation.figures import Figure
from model_behavior.evaluation.measured_votes import MeasuredVotes
from model_behavior.evaluation.stage2 import (
    Cell,
    LengthControl,
    Stage2Figures,
    control_predictions,
    mean_figure,
    measure_stage2,
    predict_votes,
)
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.model_base import ModelBase
from model_behavior.preprocessing.scoring_votes import select_scoring_votes, to_scoring_votes

SCORER, BRADLEY_TERRY = "scorer", "Bradley-Terry of its training"
_LENGTH = STYLE_COLUMNS.index("length")


@dataclass(frozen=True)
class PredictedVotes:
    """Figures of one method on the votes of a cell, and on its decided votes by length."""

    figures: Stage2Figures
    length_control: LengthControl


@dataclass(frozen=True)
class CellFigures:
    """Figures of one cell.

    Attributes:
        methods: figures by name of the method; a method that does not know the LLMs of the cell is missing.
        longer_response: accuracy of the rule that the longer response wins.
    """

    methods: Mapping[str, PredictedVotes]
    longer_response: Figure


def measure_scorer(scorer: DenseNetworkModel, measured: MeasuredVotes, seed: int) -> dict[str, CellFigures]:
    """Figures of each cell, by its label.

    Votes between known LLMs on seen prompts are left out: the scorer may have been fitted to them. So are votes with an
    LLM that it has no embedding of.
    """
    votes = to_scoring_votes(measured.data, with_style=True)
    methods: dict[str, ModelBase] = {SCORER: scorer, BRADLEY_TERRY: scorer.ratings}
    return {
        cell.label: _measure_cell(methods, select_scoring_votes(votes, rows), seed)
        for cell, rows in _divide(votes, measured, scorer).items()
        if len(rows)
    }


def _divide(votes: ScoringVotes, measured: MeasuredVotes, scorer: DenseNetworkModel) -> dict[Cell, Int64Array]:
    voted, known = (np.isin(votes.models, names) for names in (scorer.voted_models, scorer.models))
    is_new = np.zeros(len(votes), dtype=bool)
    is_new[measured.new] = True
    predictable = known[votes.model_a] & known[votes.model_b]
    a, b = voted[votes.model_a], voted[votes.model_b]
    return {
        Cell(seen_prompt=False, seen_models=True): np.flatnonzero(is_new & a & b),
        Cell(seen_prompt=False, seen_models=False): np.flatnonzero(is_new & predictable & (a != b)),
        Cell(seen_prompt=True, seen_models=False): np.flatnonzero(~is_new & predictable & (a != b)),
    }


def _measure_cell(methods: Mapping[str, ModelBase], votes: ScoringVotes, seed: int) -> CellFigures:
    assert votes.style_a is not None and votes.style_b is not None
    length_a, length_b = votes.style_a[:, _LENGTH], votes.style_b[:, _LENGTH]
    predicted = {}
    for name, model in methods.items():
        if set(votes.models) <= set(model.models):
            probabilities = predict_votes(model, votes)
            figures = measure_stage2(probabilities, votes, seed)
            assert figures is not None
            predicted[name] = PredictedVotes(figures, control_predictions(probabilities, votes, seed))
    lead = np.sign(length_a.astype(np.float64) - length_b)
    decided = np.flatnonzero(votes.outcome <= Outcome.MODEL_B)
    side = np.where(votes.outcome == Outcome.MODEL_A, 1, -1)
    longer = ((lead * side + 1) / 2)[decided]
    return CellFigures(predicted, mean_figure(longer, votes.prompt_index[decided], seed))

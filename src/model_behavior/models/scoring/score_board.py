"""What a trained network leaves behind for prediction: arrays, and the sums over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from model_behavior.arrays import AnyArray, Float32Array, Float64Array, Int64Array
from model_behavior.models.scoring.dense_network import DenseNetwork
from model_behavior.models.scoring.outcomes import OutcomeConstants, UncertainVotes, average_probabilities


@dataclass(frozen=True, eq=False)
class ModelRows:
    """What is known of some models, one row each.

    Attributes:
        names: model names, [n_models].
        level: score on the mean prompt, [n_models].
        variance: variance of the level, 0 for a model with votes, [n_models].
        own: learned vector of a voted model over the widened prompt, 0 for others, [n_models, width].
        behavior: standardised embedding, [n_models, behavior_dim].
    """

    names: tuple[str, ...]
    level: Float64Array
    variance: Float64Array
    own: Float32Array
    behavior: Float32Array


@dataclass(frozen=True, eq=False)
class ScoreBoard:
    """Rows of models, and what prompts do to them.

    Attributes:
        rows: models.
        constants: constants of the outcome likelihood on the mean prompt.
        shift: weights from the widened prompt to tie and both_bad, [width, 2].
        interaction: weights between widened prompt and behaviour, [width, behavior_dim].
        hidden_weight: weights of the hidden layer, [hidden, prompt_dim].
        hidden_bias: biases of the hidden layer, [hidden].
    """

    rows: ModelRows
    constants: OutcomeConstants
    shift: Float32Array
    interaction: Float32Array
    hidden_weight: Float32Array
    hidden_bias: Float32Array

    def widen(self, prompts: Float32Array) -> Float32Array:
        """Prompt features beside the hidden layer's, [n_prompts, width]."""
        hidden = np.tanh(prompts @ self.hidden_weight.T + self.hidden_bias)
        return np.hstack([prompts, hidden]).astype(np.float32)

    def scores(self, wide: Float32Array) -> Float64Array:
        """Of every model on every prompt, [n_prompts, n_models]."""
        rows = self.rows
        added = wide @ rows.own.T + (wide @ self.interaction) @ rows.behavior.T
        scores: Float64Array = rows.level + added.astype(np.float64)
        return scores

    def probabilities(
        self, wide: Float32Array, prompt: Int64Array, a: Int64Array, b: Int64Array, apart: Float64Array | None = None
    ) -> Float64Array:
        """Of the outcomes, averaged over what is not known of the scores, [n_votes, 4].

        Args:
            wide: see `widen`.
            prompt: row of each vote there, [n_votes].
            a: row of the left model, [n_votes].
            b: row of the right model, [n_votes].
            apart: variance of what is not known of the scores' difference beside the rows' own, [n_votes].
        """
        scores, shift = self.scores(wide), (wide @ self.shift).astype(np.float64)
        half = 0.0 if apart is None else apart / 2
        deviation_a, deviation_b = (np.sqrt(self.rows.variance[side] + half) for side in (a, b))
        votes = UncertainVotes(scores[prompt, a], scores[prompt, b], deviation_a, deviation_b, shift[prompt])
        return average_probabilities(votes, self.constants)

    def with_rows(self, new: ModelRows) -> ScoreBoard:
        """The board with rows added; where a name is there already, the new row."""
        old = self.rows
        kept = np.array([index for index, name in enumerate(old.names) if name not in set(new.names)], dtype=np.int64)
        names = [*(old.names[index] for index in kept), *new.names]
        order = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)

        def join(before: AnyArray, after: AnyArray) -> AnyArray:
            joined: AnyArray = np.concatenate([before[kept], after])[order]
            return joined

        rows = ModelRows(
            names=tuple(names[index] for index in order),
            level=join(old.level, new.level),
            variance=join(old.variance, new.variance),
            own=join(old.own, new.own),
            behavior=join(old.behavior, new.behavior),
        )
        return replace(self, rows=rows)

    def without(self, names: frozenset[str]) -> ScoreBoard:
        """The board without some models."""
        rows = self.rows
        kept = np.array([index for index, name in enumerate(rows.names) if name not in names], dtype=np.int64)
        left = ModelRows(
            tuple(rows.names[index] for index in kept),
            *(getattr(rows, name)[kept] for name in ("level", "variance", "own", "behavior")),
        )
        return replace(self, rows=left)


def board_of(network: DenseNetwork, names: tuple[str, ...], prompt_dim: int) -> ScoreBoard:
    """The board of the voted models."""
    arrays = network.arrays()
    own = arrays["models"]
    rows = ModelRows(
        names=names,
        level=(arrays["offset"] + own[:, 0]).astype(np.float64),
        variance=np.zeros(len(names)),
        own=own[:, 1:],
        behavior=arrays["behavior"],
    )
    return ScoreBoard(
        rows=rows,
        constants=network.constants(),
        shift=arrays["shift"],
        interaction=arrays["interaction"],
        hidden_weight=arrays.get("hidden.weight", np.zeros((0, prompt_dim), np.float32)),
        hidden_bias=arrays.get("hidden.bias", np.zeros(0, np.float32)),
    )


def board_to_state(board: ScoreBoard) -> dict[str, Any]:
    """Names and constants as JSON values, the rest under "tensors"."""
    tensors = {f.name: getattr(board.rows, f.name).copy() for f in fields(ModelRows) if f.name != "names"}
    tensors |= {
        f.name: getattr(board, f.name).copy() for f in fields(ScoreBoard) if f.name not in ("rows", "constants")
    }
    return {"names": list(board.rows.names), "constants": asdict(board.constants), "tensors": tensors}


def board_from_state(state: Mapping[str, Any]) -> ScoreBoard:
    """The inverse of `board_to_state`."""
    tensors = {name: np.array(value) for name, value in state["tensors"].items()}
    rows = {f.name: tensors.pop(f.name) for f in fields(ModelRows) if f.name != "names"}
    return ScoreBoard(ModelRows(tuple(state["names"]), **rows), OutcomeConstants(**state["constants"]), **tensors)

"""Any number of votes, made by repeating real ones and perturbing their texts: to measure at sizes that nobody has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model_behavior.data.text_columns import LazyTexts
from model_behavior.data_models.votes import Outcome, TrainingData
from model_behavior.files import written_aside

_SMALLEST_STEP, _LARGEST_STEP = 5, 13
_ROWS_AT_ONCE = 8192


def write_enlarged_votes(data: TrainingData, n_votes: int, path: Path, seed: int = 0) -> None:
    """Writes a plain table of votes (Parquet, zstd), one round of the real votes after the other.

    The first round is the votes as they are. In each later one every prompt carries the round's number, and of every
    response words at regular places change places with their neighbours; models and outcomes stay. So the shares of
    prompts, pairs and models among votes, and the lengths of texts, are those of the real votes at every size. Rounds
    are written as they are made: memory holds the real votes and one round.

    Args:
        data: the real votes.
        n_votes: how many to write; the last round is cut.
        path: the file.
        seed: of the places where words change.
    """
    rng = np.random.default_rng(seed)
    with written_aside(path) as aside:
        writer: pq.ParquetWriter | None = None
        try:
            for number in range(-(-n_votes // len(data))):
                table = _make_round(data, number, rng).slice(0, n_votes - number * len(data))
                writer = writer or pq.ParquetWriter(aside, table.schema, compression="zstd")
                writer.write_table(table, row_group_size=_ROWS_AT_ONCE)
        finally:
            if writer is not None:
                writer.close()


def _make_round(data: TrainingData, number: int, rng: np.random.Generator) -> pa.Table:
    pairs = data.pairs
    step = int(rng.integers(_SMALLEST_STEP, _LARGEST_STEP + 1))
    first = int(rng.integers(step))
    prompts: list[str] = list(LazyTexts(pairs.prompts))
    responses = LazyTexts(pairs.responses)
    if number:
        prompts = [f"{prompt} ({number})" for prompt in prompts]
        perturbed = pa.array((swap_words(text, first, step) for text in responses), pa.large_string())
    else:
        perturbed = pairs.responses
    models = pa.array(pairs.models, pa.string())
    columns = {"prompt": pa.array(prompts, pa.large_string()).take(pa.array(pairs.prompt_index[data.pair_a]))}
    for side, pair in (("a", data.pair_a), ("b", data.pair_b)):
        columns[f"model_{side}"] = models.take(pa.array(pairs.model_index[pair]))
        columns[f"response_{side}"] = perturbed.take(pa.array(pair))
    labels = pa.array([outcome.label for outcome in Outcome], pa.string())
    return pa.table({**columns, "winner": labels.take(pa.array(data.outcome))})


def swap_words(text: str, first: int, step: int) -> str:
    """The text, in which word `first` and every `step`-th after it have changed places with the next; 0 <= first."""
    words = text.split(" ")
    for place in range(first, len(words) - 1, step):
        words[place], words[place + 1] = words[place + 1], words[place]
    return " ".join(words)

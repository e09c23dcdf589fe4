"""Stage 1 figures of a saved encoder on votes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from model_behavior.arrays import Float32Array, Float64Array, IntArray
from model_behavior.data.split import normalised_prompt_ids
from model_behavior.data_models.behavior_encoder_types import TripletKind
from model_behavior.data_models.votes import Outcome, PairTable, TrainingData
from model_behavior.evaluation.figures import Figure
from model_behavior.evaluation.measured_votes import MeasuredVotes, Trained
from model_behavior.evaluation.recognition import (
    HeldResponses,
    SubspaceFigures,
    chance_of_recognition,
    draw_recognition,
    probe_subspaces,
    recognise,
    share_right,
)
from model_behavior.evaluation.stage1 import measure_balanced, measure_collapse, measure_triplets
from model_behavior.evaluation.stage2 import LengthControl, control_length, mean_figure
from model_behavior.models.behavior import metrics
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.names import number_families
from model_behavior.preprocessing.balanced_triplets import balanced_of_votes
from model_behavior.preprocessing.feature_cache import cut_by_content
from model_behavior.preprocessing.scoring_votes import to_scoring_votes


@dataclass(frozen=True)
class VoteReadout:
    """Figures of decided votes predicted by the encoder's read-out of quality, which sees both responses."""

    accuracy: Figure
    length_control: LengthControl


@dataclass(frozen=True)
class EncoderFigures:
    """Figures of an encoder on responses to new prompts.

    Attributes:
        triplet: accuracy on decided votes, "all", "identity", "performance".
        balanced: accuracy on balanced triplets, draws as a half.
        triplet_length_control: the same triplets by the lengths of winner and loser.
        identification: share of the artifact's models recognised among all of them, by k.
        identification_chance: share recognised by chance.
        family: the same, counting a guess of the right family as right.
        family_chance: share of right families by chance.
        collapse: mean_distance, effective_rank, prompt_share, model_share.
        readout: figures of the read-out of quality; None where the encoder was trained without the vote term.
        parts: figures of each part of the embedding.
    """

    triplet: Mapping[str, Figure]
    balanced: Figure
    triplet_length_control: LengthControl
    identification: Mapping[int, Figure]
    identification_chance: float
    family: Mapping[int, Figure]
    family_chance: float
    collapse: Mapping[str, Figure]
    readout: VoteReadout | None
    parts: Mapping[str, SubspaceFigures]


def measure_encoder(
    artifact: Trained, measured: MeasuredVotes, batch_size: int, seed: int, progress: Callable[[str, int, int], None]
) -> EncoderFigures:
    """Embeds the responses to new prompts and measures them.

    A model that was enrolled from the responses measured here is recognised too easily; the artifact does not record
    which responses those were.

    Args:
        artifact: encoder and models.
        measured: votes to measure on.
        batch_size: number of pairs encoded at once.
        seed: seed of draws and bootstrap.
        progress: callback, called with (task, done, total).
    """
    pairs = measured.fresh.pairs
    embeddings = embed_pairs(artifact.encoder, pairs, batch_size, lambda *at: progress("responses", *at))
    steps = iter(range(1, 6))

    def step() -> None:
        progress("figures", next(steps), 5)

    held, names = _held_responses(artifact, embeddings, measured)
    family = number_families(names)
    triplet = measure_triplets(embeddings, measured.triplets, measured.prompt, seed)
    step()
    draws = draw_recognition(held, seed)
    recognised = recognise(held, draws)
    identification, by_family = share_right(recognised), share_right(recognised, family)
    step()
    collapse = measure_collapse(embeddings, pairs.model_index, measured.prompt, seed)
    step()
    figures = EncoderFigures(
        triplet=triplet,
        balanced=_measure_balanced(embeddings, measured, seed),
        triplet_length_control=_control_triplets(embeddings, measured, seed),
        identification=identification,
        identification_chance=chance_of_recognition(held),
        family=by_family,
        family_chance=chance_of_recognition(held, family),
        collapse=collapse,
        readout=read_votes(artifact.encoder, embeddings, measured.fresh, np.arange(len(measured.fresh)), seed),
        parts=probe_subspaces(_parts_of(artifact.encoder), held, draws, names, _rate(measured, names), seed),
    )
    step()
    return figures


def embed_pairs(
    encoder: ModelBehaviorEncoder, pairs: PairTable, batch_size: int, progress: Callable[[int, int], None]
) -> Float32Array:
    """Embeds all pairs, chunk by chunk, [n_pairs, dim]."""
    prompts, responses = pairs.prompts.take(pairs.prompt_index).to_pylist(), pairs.responses.to_pylist()
    parts = []
    for chunk in cut_by_content(prompts, responses):
        parts.append(encoder.encode(prompts[chunk], responses[chunk], batch_size))
        progress(chunk.stop, len(responses))
    whole: Float32Array = np.concatenate(parts)
    return whole


def _held_responses(
    artifact: Trained, embeddings: Float32Array, measured: MeasuredVotes
) -> tuple[HeldResponses, tuple[str, ...]]:
    """The responses of the artifact's models, and the names of these models."""
    names = artifact.models.names
    place = {name: index for index, name in enumerate(names)}
    pairs = measured.fresh.pairs
    row = np.array([place.get(name, -1) for name in pairs.models])[pairs.model_index]
    known = np.flatnonzero(row >= 0)
    return HeldResponses(embeddings[known], row[known], measured.prompt[known], artifact.models.mean), names


def _measure_balanced(embeddings: Float32Array, measured: MeasuredVotes, seed: int) -> Figure:
    votes = np.arange(len(measured.fresh))
    triplets = balanced_of_votes(measured.fresh, measured.prompt, votes, seed)
    return measure_balanced(embeddings, triplets, measured.prompt, seed)


def _control_triplets(embeddings: Float32Array, measured: MeasuredVotes, seed: int) -> LengthControl:
    triplets = measured.triplets
    decided = triplets.kind <= TripletKind.PERFORMANCE
    anchor, negative = triplets.anchor[decided], triplets.negative[decided]
    hits = metrics.triplet_hits(embeddings, triplets)[decided].astype(np.float64)
    length = _lengths(measured.fresh.pairs)
    return control_length(hits, length[anchor], length[negative], measured.prompt[anchor], seed)


def read_votes(
    encoder: ModelBehaviorEncoder,
    embeddings: Float32Array,
    data: TrainingData,
    votes: IntArray,
    seed: int,
) -> VoteReadout | None:
    """Predicts decided votes by the encoder's read-out of quality; None where it has none, or no vote is decided.

    Args:
        encoder: trained encoder.
        embeddings: embedding of every pair of `data` by this encoder, [n_pairs, dim].
        data: votes over a table of pairs.
        votes: indices of the votes to predict.
        seed: seed of the bootstrap.
    """
    decided = votes[data.outcome[votes] <= Outcome.MODEL_B]
    if not encoder.config.objectives.vote or not len(decided):
        return None
    rating, length = encoder.rate(embeddings), _lengths(data.pairs)
    left_wins = data.outcome[decided] == Outcome.MODEL_A
    a, b = data.pair_a[decided], data.pair_b[decided]
    winner, loser = np.where(left_wins, a, b), np.where(left_wins, b, a)
    hits = (np.sign(rating[winner] - rating[loser]) + 1) / 2
    prompt = normalised_prompt_ids(data.pairs.prompts)[data.pairs.prompt_index[winner]]
    control = control_length(hits, length[winner], length[loser], prompt, seed)
    return VoteReadout(mean_figure(hits, prompt, seed), control)


def _parts_of(encoder: ModelBehaviorEncoder) -> dict[str, slice]:
    dim, quality = encoder.dim, encoder.config.quality_dim
    return {"whole": slice(0, dim), "quality": slice(0, quality), "identity": slice(quality, dim)}


def _rate(measured: MeasuredVotes, names: tuple[str, ...]) -> Float64Array:
    """Bradley-Terry ratings from all votes of the file, NaN for a model without votes."""
    model = BradleyTerry()
    model.fit(to_scoring_votes(measured.data))
    found = dict(zip(model.models, model.rating.tolist(), strict=True))
    return np.array([found.get(name, np.nan) for name in names])


def _lengths(pairs: PairTable) -> Float64Array:
    lengths: Float64Array = pc.utf8_length(pairs.responses).to_numpy(zero_copy_only=False).astype(np.float64)
    return lengths

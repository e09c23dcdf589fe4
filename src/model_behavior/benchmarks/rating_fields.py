"""Fields of known LLMs, each taught in another way, and the responses of the new LLMs that are to be rated in them.

Ratings are read as the product reads them: the known LLMs are enrolled in a catalog, `lay_foundation` fits the ratings
and their reading, and the new LLMs have no part in either. Their responses are encoded and compared once; any draw of
them then gives a table of models in no time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from model_behavior.arrays import BoolArray, Float32Array, Float64Array, Int64Array, UInt64Array
from model_behavior.catalog.agreement import Answers, agree, answers_of, features_of_pairs, model_table
from model_behavior.catalog.asking import PromptBook, make_book
from model_behavior.catalog.embeddings import average, usable_pairs
from model_behavior.catalog.enrolment import enrol, prompt_keys
from model_behavior.catalog.samples import pack_words
from model_behavior.data.filters import select_pairs, select_votes
from model_behavior.data.ratings import RatingTable
from model_behavior.data.split import normalised_prompt_ids, pairs_of
from model_behavior.data_models.scoring_types import ELO_PER_LOG_ODDS, Agreement, ModelAnswers, ModelTable
from model_behavior.data_models.votes import PairTable, SplitVotes, TrainingData
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.scoring.answer_rating import Line, fit_line
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.few_families import widening
from model_behavior.models.scoring.foundation import lay_foundation, rows_of_models
from model_behavior.models.scoring.published_ratings import MEAN_ELO
from model_behavior.models.scoring.rating_reader import RatingReader
from model_behavior.names import family_of, number_families
from model_behavior.preprocessing.scoring_votes import to_scoring_votes

_PROMPT_DIM = 1  # the network, which alone looks at prompts, is not trained here


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a field is taught from.

    Attributes:
        encoder: encoder that has seen nothing but this.
        data: votes.
        rows: votes to fit ratings and their reading to.
        ratings: published ratings; None where votes alone teach.
    """

    encoder: ModelBehaviorEncoder
    data: TrainingData
    rows: Int64Array
    ratings: RatingTable | None = None


@dataclass(frozen=True, eq=False)
class NewResponses:
    """Responses of new LLMs; arrays [n_responses].

    Attributes:
        names: names of the LLMs, [n_new].
        owner: LLM of each response.
        keys: key of its prompt.
        met: True where known LLMs have answered the prompt.
        vectors: embeddings as the scorer reads them, float32, [n_responses, dim].
        square: square length of such a vector.
        agreement: agreement with the known LLMs.
        answers: features.
    """

    names: tuple[str, ...]
    owner: Int64Array
    keys: UInt64Array
    met: BoolArray
    vectors: Float32Array
    square: float
    agreement: Agreement
    answers: ModelAnswers

    def draw(self, allowed: BoolArray, k: int, rng: np.random.Generator) -> Int64Array:
        """At most k random responses of each LLM, of those that are allowed."""
        rows = rng.permutation(np.flatnonzero(allowed))
        rows = rows[np.argsort(self.owner[rows], kind="stable")]
        owner = self.owner[rows]
        drawn: Int64Array = rows[np.arange(len(rows)) - np.searchsorted(owner, owner) < k]
        return drawn

    def table(self, rows: Int64Array) -> ModelTable:
        """The LLMs that have some of these responses, from these alone."""
        owner = self.owner[rows]
        counts = np.bincount(owner, minlength=len(self.names))
        sums = np.zeros((len(self.names), self.vectors.shape[1]))
        np.add.at(sums, owner, self.vectors[rows])
        there = np.flatnonzero(counts)
        found = average([self.names[row] for row in there], sums[there], counts[there])
        spread = np.sqrt(np.maximum(self.square - np.square(found.mean).sum(axis=1), 0)).astype(np.float32)
        agreement, answers = self.agreement.of_responses(rows), self.answers.of_responses(rows)
        return ModelTable(found.names, found.mean, found.count, spread, agreement.select(there), answers.select(there))


@dataclass(frozen=True, eq=False)
class LengthRating:
    """The baseline: ratings as a line in the mean logarithm of the responses' lengths.

    Attributes:
        line: the line, fitted to known LLMs.
        within: variance of a response's log length around its LLM's.
        residual: variance of ratings around lines without their family.
    """

    line: Line
    within: float
    residual: float

    @classmethod
    def fit(cls, table: ModelTable, rating: Float64Array) -> LengthRating:
        """Fits to known LLMs, each of which has responses."""
        mean, count, within = _lengths(table)
        families = number_families(table.names)
        line = fit_line(mean, rating, within / count, families)
        missed = float(np.square(rating - line.left_out).mean())
        return cls(line, within, missed * widening(int(families.max()) + 1))

    def read(self, table: ModelTable) -> tuple[Float64Array, Float64Array]:
        """Mean and variance of the ratings of LLMs, [n_models] each."""
        mean, count, _ = _lengths(table)
        kept = self.line.between / (self.line.between + self.within / count)
        told = self.line.level + self.line.slope * kept * (mean - self.line.centre)
        return told, self.residual + self.line.slope**2 * self.line.between * (1 - kept)


def _lengths(table: ModelTable) -> tuple[Float64Array, Float64Array, float]:
    """Mean log length and number of responses of each LLM, [n_models] each, and the variance within LLMs."""
    assert table.answers is not None
    owner, n_models = table.answers.owner, len(table.names)
    length = table.answers.values[:, table.answers.names.index("log_characters")].astype(np.float64)
    count = np.maximum(np.bincount(owner, minlength=n_models), 1).astype(np.float64)
    mean: Float64Array = np.bincount(owner, length, n_models) / count
    freedom = max(len(length) - n_models, 1)
    return mean, count, float(np.square(length - mean[owner]).sum() / freedom)


@dataclass(frozen=True, eq=False)
class TaughtField:
    """Known LLMs, the reading of ratings that was learned from them, and the new LLMs.

    Attributes:
        reader: reader of ratings.
        length: the baseline by length alone.
        level_variance: variance of a new rating that comes from groups of models that no vote connects.
        known: ratings of the known LLMs, log-odds, [n_known].
        new: responses of the new LLMs.
        truth: their later ratings on the same scale, log-odds, [n_new].
        origin: log-odds of a rating of 0 on the scale that `truth` was given on.
        book: prompts to ask; None where too few are shared.
    """

    reader: RatingReader
    length: LengthRating
    level_variance: float
    known: Float64Array
    new: NewResponses
    truth: Float64Array
    origin: float
    book: PromptBook | None


def teach(lesson: Lesson, new: PairTable, truth: Mapping[str, float], batch_size: int) -> TaughtField:
    """Fits ratings and their reading, and prepares the responses of the new LLMs.

    Args:
        lesson: what is known.
        new: responses of the LLMs to rate.
        truth: later ratings of all LLMs, log-odds; on the scale of the published ratings where there are any.
        batch_size: pairs encoded at once.
    """
    encoder, data = lesson.encoder, lesson.data
    answers = features_of_pairs(encoder, data.pairs, batch_size)
    votes = to_scoring_votes(data, lesson.rows, answers=answers)
    catalog = enrol(encoder, select_pairs(data.pairs, pairs_of(data, lesson.rows)), batch_size)
    table = model_table(encoder, catalog, votes.models)
    voted = rows_of_models(table, votes.models)
    base = lay_foundation(votes, voted, _PROMPT_DIM, DenseNetworkConfig(), lesson.ratings)
    assert base.reader is not None and voted.agreement is not None
    rating = base.ratings.rating
    if base.published is not None:
        origin = base.published.anchor / ELO_PER_LOG_ODDS
        rated = np.array([votes.models.index(name) for name in base.published.table.models], dtype=np.int64)
        length = LengthRating.fit(voted.select(rated), rating[rated])
    else:
        origin = float(np.mean([truth[name] for name in votes.models]))
        length = LengthRating.fit(voted, rating)
    usable = np.flatnonzero(usable_pairs(new))
    responses = _prepare(encoder, select_pairs(new, usable), answers_of(catalog.samples, votes.models), batch_size)
    is_shared = voted.agreement.is_shared.any()
    book = make_book(data.pairs, catalog.samples, voted.agreement, rating) if is_shared else None
    later = np.array([truth[name] for name in responses.names]) - origin
    variance = base.ratings.mixed_level_variance
    return TaughtField(base.reader, length, variance, rating, responses, later, origin, book if book else None)


def _prepare(encoder: ModelBehaviorEncoder, pairs: PairTable, peers: Answers, batch_size: int) -> NewResponses:
    keys, owner = prompt_keys(pairs), pairs.model_index.astype(np.int64)
    prompts = pairs.prompts.take(pairs.prompt_index).to_pylist()
    vectors = encoder.encode(prompts, pairs.responses.to_pylist(), batch_size)
    weight = encoder.config.features.identity_weight
    square = weight**2 / (1 + weight**2) if weight else 1.0  # as in `model_table`
    asking = Answers(pairs.models, owner, keys, pack_words(pairs.responses.to_pylist()))
    names, values = features_of_pairs(encoder, pairs, batch_size)
    return NewResponses(
        names=pairs.models,
        owner=owner,
        keys=keys,
        met=np.isin(keys, peers.keys),
        vectors=np.ascontiguousarray(encoder.identity_of(vectors) if weight else vectors),
        square=square,
        agreement=agree(asking, peers, np.zeros(len(pairs.models), dtype=bool)),
        answers=ModelAnswers(names, owner, values),
    )


def responses_of_models(pairs: PairTable, names: Collection[str]) -> PairTable:
    """All responses of some models."""
    chosen = np.array([name in set(names) for name in pairs.models], dtype=bool)
    return select_pairs(pairs, np.flatnonzero(chosen[pairs.model_index]))


def thin_votes(data: TrainingData, split: SplitVotes, rng: np.random.Generator) -> TrainingData:
    """One random vote on each prompt of either side of the split, and all votes that are held out."""
    prompt = normalised_prompt_ids(data.pairs.prompts)[data.pairs.prompt_index[data.pair_a]]
    free = rng.permutation(np.concatenate([split.train, split.validation]))
    once = free[np.unique(prompt[free], return_index=True)[1]]
    return select_votes(data, np.sort(np.concatenate([once, split.held_out])))


def as_published(ratings: BradleyTerry) -> RatingTable:
    """Ratings of votes as a leaderboard would publish them: on the Elo scale, with their intervals."""
    rated = ratings.rate()
    rating, low, high = (MEAN_ELO + ELO_PER_LOG_ODDS * column for column in (rated.rating, rated.low, rated.high))
    return RatingTable(rated.models, rating, low, high)


def without_families(votes: TrainingData, names: Collection[str]) -> TrainingData:
    """The votes on no model of these models' families."""
    out = {family_of(name) for name in names}
    is_out = np.array([family_of(name) in out for name in votes.pairs.models], dtype=bool)[votes.pairs.model_index]
    return select_votes(votes, np.flatnonzero(~is_out[votes.pair_a] & ~is_out[votes.pair_b]))

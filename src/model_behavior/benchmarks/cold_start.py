"""Benchmark of stage 2 on LLMs without votes, enrolled from k of their responses.

`prepare_stage2` divides one split of a vote file into what is fitted to, measured on and enrolled from;
`measure_cold_start` enrols the new LLMs from k responses each and measures predictions and ratings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import spearmanr

from model_behavior.arrays import Float32Array, Float64Array, Int64Array, IntArray, UInt64Array
from model_behavior.catalog.agreement import Answers, agree
from model_behavior.catalog.enrolment import prompt_keys
from model_behavior.catalog.samples import pack_words
from model_behavior.data.split import normalised_prompt_ids
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.scoring_types import Agreement, ModelAnswers, ModelTable, ScoringVotes
from model_behavior.data_models.votes import PairTable
from model_behavior.evaluation.stage2 import Cell, Stage2Figures, coverage, measure_cells, votes_of_cells
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.preprocessing.scoring_votes import AnswerTable, to_scoring_votes

ENROLMENT_SIZES = (1, 8, 32, 128)
NEW_ON_NEW = Cell(seen_prompt=False, seen_models=False)
_SEEN_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Stage2Material:
    """One split of one vote file.

    Attributes:
        fit: votes between known LLMs to fit to.
        test: votes to measure on: on measured prompts, and with new LLMs, and some left-out ones on `fit`'s prompts.
        oracle: `fit` and all votes of the new LLMs on training prompts: what a rating that knows them would know.
        everything: all votes, for the later rating.
        known: the known LLMs, from their responses in `fit`.
        embeddings: embeddings of all pairs, [n_pairs, dim].
        pairs: the pairs.
        pool: pairs of new LLMs on training prompts, to enrol from.
        agreement: agreement of the pairs in `pool` with known LLMs' responses in `fit`; its owners are `pairs.models`.
        answers: features of the pairs in `pool`, likewise.
    """

    fit: ScoringVotes
    test: ScoringVotes
    oracle: ScoringVotes
    everything: ScoringVotes
    known: ModelTable
    embeddings: Float32Array
    pairs: PairTable
    pool: Int64Array
    agreement: Agreement
    answers: ModelAnswers


@dataclass(frozen=True)
class ColdStartFigures:
    """New LLMs at one k, means over the draws of responses; the figures' intervals are of the first draw.

    Attributes:
        k: number of responses of each LLM.
        votes: figures of votes on measured prompts between a new and a known LLM; None without such votes.
        accuracy: accuracy, mean over draws.
        log_loss: log loss, mean over draws.
        correlation: Spearman correlation of predicted and later ratings of the new LLMs.
        coverage: share of later ratings inside the 95 % interval.
        n_models: new LLMs.
    """

    k: int
    votes: Stage2Figures | None
    accuracy: float
    log_loss: float
    correlation: float
    coverage: float
    n_models: int


def prepare_stage2(
    prepared: PreprocessedBehaviorEncoderData, embeddings: Float32Array, answers: AnswerTable, seed: int
) -> Stage2Material:
    """Divides votes for stage 2 on top of stage 1's split.

    Args:
        prepared: filtered votes and the split that the encoder was trained with; its validation prompts are measured.
        embeddings: embeddings of all pairs by that encoder, [n_pairs, dim].
        answers: features of all pairs.
        seed: seed of the votes on seen prompts that are left out.
    """
    data, split = prepared.data, prepared.split
    rng = np.random.default_rng(seed)
    prompt_of_pair = normalised_prompt_ids(data.pairs.prompts)[data.pairs.prompt_index]
    prompt = prompt_of_pair[data.pair_a]
    is_seen_test = rng.random(len(split.train)) < _SEEN_SHARE
    fit = split.train[~is_seen_test]
    measured = np.unique(prompt[split.validation])
    new_to_learn = split.held_out[~np.isin(prompt[split.held_out], measured)]
    new_pairs = np.unique(np.concatenate([data.pair_a[split.held_out], data.pair_b[split.held_out]]))
    is_known = np.zeros(len(data.pairs.models), dtype=bool)
    is_known[data.pairs.model_index[data.pair_a[split.train]]] = True
    is_known[data.pairs.model_index[data.pair_b[split.train]]] = True
    may_enrol = ~is_known[data.pairs.model_index[new_pairs]] & ~np.isin(prompt_of_pair[new_pairs], measured)
    taught_pairs = np.unique(np.concatenate([data.pair_a[fit], data.pair_b[fit]]))
    test = np.concatenate([split.validation, split.held_out, split.train[is_seen_test]])
    pool = new_pairs[may_enrol].astype(np.int64)
    known = tabulate_models(embeddings, data.pairs, taught_pairs)
    keys = prompt_keys(data.pairs)
    peers = answers_of_pairs(data.pairs, keys, taught_pairs, known.names)
    among = agree(peers, peers, np.ones(len(known.names), dtype=bool))
    own = ModelAnswers(answers[0], peers.owner, answers[1][taught_pairs])
    asking = answers_of_pairs(data.pairs, keys, pool, data.pairs.models)
    return Stage2Material(
        fit=to_scoring_votes(data, fit, with_style=True, answers=answers),
        test=to_scoring_votes(data, test, with_style=True),
        oracle=to_scoring_votes(data, np.concatenate([fit, new_to_learn])),
        everything=to_scoring_votes(data),
        known=replace(known, agreement=among, answers=own),
        embeddings=embeddings,
        pairs=data.pairs,
        pool=pool,
        agreement=agree(asking, peers, np.zeros(len(asking.names), dtype=bool)),
        answers=ModelAnswers(answers[0], asking.owner, answers[1][pool]),
    )


def measure_cold_start(
    model: DenseNetworkModel, material: Stage2Material, k: int, draws: int, seed: int
) -> ColdStartFigures:
    """Enrols the new LLMs `draws` times from k responses each, and measures.

    Args:
        model: network fitted to `material.fit`; the new LLMs are removed from it in the end.
        material: votes and embeddings, with held-out LLMs.
        k: number of responses of each new LLM.
        draws: number of draws.
        seed: seed of the draws.
    """
    rng = np.random.default_rng(seed)
    new = tuple(sorted({material.pairs.models[index] for index in material.pairs.model_index[material.pool]}))
    later = later_ratings(material, model.voted_models)
    votes = votes_of_cells(material.test, material.fit).get(NEW_ON_NEW)
    figures, rows = [], []
    for _ in range(draws):
        model.enrol(draw_enrolment(material, k, rng))
        ratings = model.rate(new)
        truth = np.array([later[name] for name in new])
        rho = float(spearmanr(ratings.rating, truth).statistic) if len(new) > 2 else float("nan")
        measured = measure_cells(model, {NEW_ON_NEW: votes}, seed).get(NEW_ON_NEW) if votes is not None else None
        figures.append(measured)
        right = (measured.accuracy.value, measured.log_loss.value) if measured is not None else (np.nan, np.nan)
        rows.append((*right, rho, coverage(ratings.low, ratings.high, truth)))
    model.remove(new)
    accuracy, loss, rho, covered = np.mean(rows, axis=0).tolist()
    return ColdStartFigures(k, figures[0], accuracy, loss, rho, covered, len(new))


def measure_oracle(material: Stage2Material, seed: int) -> Stage2Figures | None:
    """Bradley-Terry that has seen the new LLMs' votes on training prompts."""
    oracle = BradleyTerry()
    oracle.fit(material.oracle)
    votes = votes_of_cells(material.test, material.fit).get(NEW_ON_NEW)
    return measure_cells(oracle, {NEW_ON_NEW: votes}, seed).get(NEW_ON_NEW) if votes is not None else None


def draw_enrolment(material: Stage2Material, k: int, rng: np.random.Generator) -> ModelTable:
    """Embeddings of the new LLMs from k of their responses to training prompts each, or all where there are fewer."""
    shuffled = rng.permutation(len(material.pool))
    model = material.pairs.model_index[material.pool[shuffled]]
    order = np.argsort(model, kind="stable")
    rank = np.arange(len(order)) - np.searchsorted(model[order], model[order])
    drawn = shuffled[order][rank < k]
    table = tabulate_models(material.embeddings, material.pairs, material.pool[drawn])
    rows = np.array([material.pairs.models.index(name) for name in table.names], dtype=np.int64)
    agreement, answers = material.agreement.of_responses(drawn), material.answers.of_responses(drawn)
    return replace(table, agreement=agreement.select(rows), answers=answers.select(rows))


def later_ratings(material: Stage2Material, known: tuple[str, ...]) -> dict[str, float]:
    """Bradley-Terry ratings from all votes, so shifted that the known LLMs have a mean of 0."""
    rated = _rate_all(material.everything)
    level = float(np.mean([rated[name] for name in known]))
    return {name: rating - level for name, rating in rated.items()}


def answers_of_pairs(pairs: PairTable, keys: UInt64Array, rows: IntArray, names: Sequence[str]) -> Answers:
    """The responses of some pairs as they are compared with others, in the order of `rows`.

    Args:
        pairs: pairs that they are of.
        keys: keys of the prompts of all pairs, [n_pairs].
        rows: pairs to use.
        names: their models, to which the owners refer.
    """
    place = {name: index for index, name in enumerate(names)}
    owner = np.array([place.get(name, -1) for name in pairs.models], dtype=np.int64)[pairs.model_index[rows]]
    return Answers(tuple(names), owner, keys[rows], pack_words(pairs.responses.take(rows).to_pylist()))


def tabulate_models(embeddings: Float32Array, pairs: PairTable, rows: IntArray) -> ModelTable:
    """Model embeddings from some pairs, each counted as often as it is listed.

    Args:
        embeddings: unit vectors of all pairs, [n_pairs, dim].
        pairs: pairs that they are of.
        rows: pairs to use.
    """
    model = pairs.model_index[rows]
    count = np.bincount(model, minlength=len(pairs.models))
    sums = np.zeros((len(pairs.models), embeddings.shape[1]))
    np.add.at(sums, model, embeddings[rows])
    present = np.flatnonzero(count)
    mean = sums[present] / count[present, None]
    spread = np.sqrt(np.maximum(1 - np.square(mean).sum(axis=1), 0))
    names = tuple(pairs.models[index] for index in present)
    return ModelTable(names, mean.astype(np.float32), count[present].astype(np.int64), spread.astype(np.float32))


def _rate_all(votes: ScoringVotes) -> dict[str, float]:
    model = BradleyTerry()
    model.fit(votes)
    rating: Float64Array = model.rating
    return dict(zip(model.models, rating.tolist(), strict=True))

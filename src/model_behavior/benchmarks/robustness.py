"""Benchmark of identity under what a harness does to responses, for mixtures of two models, and in other languages.

Known LLMs are those that the encoder was trained on, new ones of families that it has never seen. Half of the
validation prompts make the catalog, responses to the other half are changed and judged, as in `certainty`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from model_behavior.arrays import Float64Array, FloatArray, Int64Array
from model_behavior.benchmarks.certainty import enrol_known
from model_behavior.benchmarks.harnesses import AS_IS, UNSEEN, VISIBLE
from model_behavior.benchmarks.languages import WORDS, translate_pairs, translate_votes
from model_behavior.catalog import enrol
from model_behavior.catalog.identification import Identifier, fit_identifier
from model_behavior.catalog.samples import ModelSamples
from model_behavior.data.arena import build_arena
from model_behavior.data.filters import select_pairs, select_votes
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.votes import PairTable, ValidationSplit
from model_behavior.errors import DataError
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.names import family_of
from model_behavior.pipeline import TrainingConfig, train_encoder

MIXTURES = (0.05, 0.1, 0.2)
LANGUAGES = ("en", *WORDS)
_RESPONSES, _FEWEST = 32, 4
_MODELS = 20  # of known ones and of new ones: a change encodes 32 responses of each anew
_PROMPTS, _TRAINED_PROMPTS, _VOTES_PER_PROMPT = 150, 110, 12


@dataclass(frozen=True)
class RobustnessFigures:
    """Verdicts on responses that were changed in one way.

    Attributes:
        named: share of known LLMs that are likeliest among the known ones.
        none_known: mean probability of "none of them" for known LLMs.
        none_new: the same for new LLMs.
        named_shifted: share of known LLMs named at all, as the likeliest or as the shifted model.
        wrongly_shifted: share of new LLMs for which a known one is named as the shifted model.
        n: known and new LLMs judged.
    """

    named: float
    none_known: float
    none_new: float
    named_shifted: float
    wrongly_shifted: float
    n: tuple[int, int]


@dataclass(frozen=True)
class LanguageFigures:
    """The synthetic arena in one language, from all responses of each LLM to new prompts.

    Attributes:
        named: share of LLMs that are the likeliest.
        true: mean probability of the right LLM.
        n: LLMs.
    """

    named: float
    true: float
    n: int


def measure_robustness(
    encoder: ModelBehaviorEncoder, prepared: PreprocessedBehaviorEncoderData, batch_size: int, seed: int
) -> dict[str, RobustnessFigures]:
    """Figures by change, in the order of the report; none where there are too few LLMs or prompts.

    Args:
        encoder: encoder that was trained on the split.
        prepared: the votes and the split, with held-out LLMs.
        batch_size: pairs encoded at once.
        seed: seed of the halves of the prompts and of the draws.
    """
    rng = np.random.default_rng(seed)
    catalog, asked = enrol_known(encoder, prepared, batch_size, rng)
    pairs = _draw_responses(asked, set(catalog.models.names), rng)
    try:
        identifier = fit_identifier(catalog, seed)
    except DataError:
        return {}
    changes: dict[str, Callable[[str], str]] = {AS_IS: str, **UNSEEN, **VISIBLE}
    found = {}
    as_is: ModelSamples | None = None
    for name, change in changes.items():
        changed = replace(pairs, responses=pa.array(map(change, pairs.responses.to_pylist()), pa.large_string()))
        samples = enrol(encoder, changed, batch_size).samples
        as_is = samples if name == AS_IS else as_is
        found[name] = _score(identifier, samples)
    assert as_is is not None
    for share in MIXTURES:
        found[f"{share:.0%} of another LLM's"] = _score(identifier, as_is, share)
    return {name: each for name, each in found.items() if each is not None}


def measure_languages(
    epochs: int, runtime: Runtime, languages: tuple[str, ...] = LANGUAGES
) -> dict[str, LanguageFigures]:
    """Trains the synthetic arena in every language, and identifies its LLMs from responses to other prompts."""
    votes = build_arena(0, _PROMPTS, _VOTES_PER_PROMPT).votes
    trained = select_votes(votes, np.flatnonzero(votes.pairs.prompt_index[votes.pair_a] < _TRAINED_PROMPTS))
    asked = select_pairs(votes.pairs, np.flatnonzero(votes.pairs.prompt_index >= _TRAINED_PROMPTS))
    config = replace(TrainingConfig(), epochs=epochs, split=ValidationSplit()).with_seed(0)
    found = {}
    for language in languages:
        own, answers = trained, asked
        if language != "en":
            own, answers = translate_votes(trained, language), translate_pairs(asked, language)
        verdicts = train_encoder(own, config, runtime).identify(answers)
        named = [verdict.likeliest == model for model, verdict in verdicts.items()]
        true = [{each.model: each.probability for each in v.candidates}.get(str(m), 0.0) for m, v in verdicts.items()]
        found[language] = LanguageFigures(float(np.mean(named)), float(np.mean(true)), len(named))
    return found


def _draw_responses(asked: PairTable, known: set[str], rng: np.random.Generator) -> PairTable:
    """Up to 32 responses of some known and some new models, those with too few left out."""
    counts = np.bincount(asked.model_index, minlength=len(asked.models))
    enough: list[int] = np.flatnonzero(counts >= _FEWEST).tolist()
    rows: list[Int64Array] = []
    for wanted in (True, False):
        side = np.array([index for index in enough if (asked.models[index] in known) == wanted], dtype=np.int64)
        chosen = rng.permutation(side)[:_MODELS].tolist()
        rows += [rng.permutation(np.flatnonzero(asked.model_index == model))[:_RESPONSES] for model in chosen]
    return select_pairs(asked, np.sort(np.concatenate(rows)) if rows else np.zeros(0, np.int64))


def _score(identifier: Identifier, samples: ModelSamples, foreign: float = 0.0) -> RobustnessFigures | None:
    """Verdicts on every model's responses, a share of them replaced by those of the next model of another family."""
    names, known, new = samples.names, [], []
    for row, name in enumerate(names):
        verdict = identifier.identify(*_mix(samples, row, foreign))
        first = verdict.candidates[0].model
        if name in identifier.names:
            known.append((first == name, verdict.none, name in (verdict.likeliest, verdict.shifted_model)))
        else:
            new.append((verdict.none, verdict.shifted_model is not None))
    if not known or not new:
        return None
    named, none_known, shifted = np.mean(known, axis=0).tolist()
    none_new, wrongly = np.mean(new, axis=0).tolist()
    return RobustnessFigures(named, none_known, none_new, shifted, wrongly, (len(known), len(new)))


def _mix(samples: ModelSamples, row: int, foreign: float) -> tuple[FloatArray, FloatArray]:
    """Style and embeddings of a model's responses; the last ones are another model's."""
    own = [each.vectors[each.rows_of(row)].astype(np.float64) for each in (samples.styles, samples.embedded)]
    n = round(foreign * len(own[0]))
    if not n:
        return own[0], own[1]
    family = [family_of(name) for name in samples.names]
    others = [other for other in range(row + 1, row + len(family)) if family[other % len(family)] != family[row]]
    other = (others or [row + 1])[0] % len(family)
    mixed: list[Float64Array] = []
    for each, vectors in zip((samples.styles, samples.embedded), own, strict=True):
        theirs = each.vectors[each.rows_of(other)].astype(np.float64)[:n]
        mixed.append(np.concatenate([vectors[: len(vectors) - len(theirs)], theirs]))
    return mixed[0], mixed[1]

"""Stage 1 on the first rows of a vote file, whole and in parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from model_behavior.catalog import Catalog
from model_behavior.catalog.enrolment import enrol
from model_behavior.data.filters import FilterConfig, filter_votes, select_votes
from model_behavior.data.loading import load_votes
from model_behavior.data_models.split import ValidationSplit
from model_behavior.data_models.votes import TrainingData
from model_behavior.evaluation.speed.clock import Timing, clock, take_turns
from model_behavior.evaluation.speed.floor import Machine
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.lexical_encoder import LexicalEncoder
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime, TrainingMonitor
from model_behavior.models.behavior.registry import DEFAULT_ENCODERS, make_text_encoders
from model_behavior.models.behavior.style_encoder import StyleEncoder
from model_behavior.models.behavior.style_features import FEATURES
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.triplets import TripletConfig, TripletSampler

_TEXTS_AT_ONCE = 1024
_TRIPLETS_PER_STEP = 128
_PAIRS_AT_ONCE = 512


@dataclass(frozen=True)
class StageSpeed:
    """One stage.

    Attributes:
        name: of it.
        unit: of what it handles.
        timing: of it.
        floor: seconds of the least that it must do, and what that is; None where nothing simple can be counted.
    """

    name: str
    unit: str
    timing: Timing
    floor: tuple[float, str] | None = None


@dataclass(frozen=True, eq=False)
class WholeStage:
    """Stage 1 from votes to embedded models, nothing cached.

    Attributes:
        encoders: names of the text encoders.
        timing: of all of it, by votes.
        epoch_seconds: of each epoch of the head.
        triplets: of an epoch.
        encoder: trained.
        catalog: its models.
    """

    encoders: tuple[str, ...]
    timing: Timing
    epoch_seconds: tuple[float, ...]
    triplets: int
    encoder: ModelBehaviorEncoder
    catalog: Catalog


def measure_parts(source: str, votes: TrainingData, machine: Machine, turns: int) -> list[StageSpeed]:
    """Reading the file, filters, features and triplets, one after the other."""
    n_bytes = _bytes_of(votes)
    kept, _ = filter_votes(votes, FilterConfig())
    prompts = kept.pairs.prompts.take(kept.pairs.prompt_index).to_pylist()
    responses = kept.pairs.responses.to_pylist()
    everything, _ = load_votes(source)
    copied = (_bytes_of(everything) / machine.copied, "copying the texts")
    scanned = (n_bytes / machine.scanned, "one regular expression over the texts")
    n_patterns = sum(feature.bytes is None for feature in FEATURES)
    counted = (n_patterns * scanned[0], f"its {n_patterns} patterns over the texts, one by one")
    sampler = TripletSampler(kept, np.arange(len(kept)), TripletConfig())

    def encode(encoder: TextEncoderBase) -> Callable[[int], object]:
        return lambda turn: encoder.encode(prompts, responses, _TEXTS_AT_ONCE)

    def measure(name: str, work: Callable[[int], object], items: int) -> Timing:
        return take_turns({name: work}, turns, items)[name]

    return [
        StageSpeed("reading the file", "votes", measure("read", lambda _: load_votes(source), len(everything)), copied),
        StageSpeed(
            "filters, self-naming masked",
            "votes",
            measure("filter", lambda _: filter_votes(votes, FilterConfig()), len(votes)),
            scanned,
        ),
        StageSpeed("style features", "responses", measure("style", encode(StyleEncoder()), len(responses)), counted),
        StageSpeed("lexical features", "responses", measure("lex", encode(LexicalEncoder()), len(responses)), scanned),
        StageSpeed(
            "triplets of an epoch",
            "votes",
            measure("triplets", lambda turn: sampler.sample(np.random.default_rng(turn)), len(kept)),
        ),
    ]


def run_whole_stage(
    votes: TrainingData, epochs: int, monitor: TrainingMonitor, encoders: Sequence[str] = DEFAULT_ENCODERS
) -> WholeStage:
    """Trains on the votes with an empty cache and embeds their models."""
    with TemporaryDirectory() as folder:
        runtime = Runtime(ContentCache(Path(folder)), monitor)
        encoder = ModelBehaviorEncoder(make_text_encoders(encoders), runtime=runtime)
        found: list[Catalog] = []

        def work() -> None:
            encoder.train(votes, ValidationSplit(), epochs, _TRIPLETS_PER_STEP)
            found.append(enrol(encoder, votes.pairs, _PAIRS_AT_ONCE))

        timing = clock(work, len(votes))
    seconds = tuple(log.seconds for log in encoder.history)
    return WholeStage(tuple(encoders), timing, seconds, encoder.history[0].n_triplets, encoder, found[0])


def first_votes(votes: TrainingData, n: int) -> TrainingData:
    """The first `n` votes, or all if there are fewer."""
    return select_votes(votes, np.arange(min(n, len(votes))))


def _bytes_of(votes: TrainingData) -> int:
    return int(votes.pairs.responses.nbytes + votes.pairs.prompts.nbytes)

"""Benchmark of stage 2 and its baselines on vote files, over several seeds.

Both stages are trained on each split, without some families of LLMs, and every method is measured on the same votes.
The benchmark also compares calibrations of the dense network with the calibration error expected by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import IsotonicRegression

from model_behavior.arrays import Float32Array, FloatArray
from model_behavior.benchmarks.baselines.matrix_factorisation import MatrixFactorisation
from model_behavior.benchmarks.baselines.nearest_prompts import NearestPrompts
from model_behavior.benchmarks.baselines.ratings import Elo, LongerResponse, StyleControl
from model_behavior.benchmarks.cold_start import (
    ENROLMENT_SIZES,
    ColdStartFigures,
    Stage2Material,
    draw_enrolment,
    measure_cold_start,
    measure_oracle,
    prepare_stage2,
)
from model_behavior.benchmarks.rating_cells import RatingCell, measure_cells_of_votes, summarise_cells
from model_behavior.benchmarks.stage2_plan import Stage2Plan
from model_behavior.catalog.agreement import features_of_pairs
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.scoring_types import ModelTable, ScoringVotes
from model_behavior.data_models.votes import TrainingData, ValidationSplit
from model_behavior.evaluation.stage2 import (
    Cell,
    LengthControl,
    ReliabilityBin,
    Stage2Figures,
    control_predictions,
    expected_calibration_error,
    measure_cells,
    measure_stage2,
    predict_votes,
    reliability,
    votes_of_cells,
)
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.models.scoring.calibration import Temperature
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel
from model_behavior.models.scoring.dense_network_training import HeldOutVotes
from model_behavior.models.scoring.model_base import ModelBase
from model_behavior.names import draw_held_out
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.scoring_votes import select_scoring_votes

DENSE_NETWORK = "DenseNetworkModel, behavior"
BRADLEY_TERRY = "Bradley-Terry with ties"
NEW_PROMPTS = Cell(seen_prompt=False, seen_models=True)
VOTE_SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
_ENROL_FOR_CELLS = 32
_LEAST = 1e-4
_SIMULATIONS = 100
Factory = Callable[[ModelTable, ContentCache], ModelBase]
METHODS: Mapping[str, Factory] = {
    DENSE_NETWORK: lambda table, cache: DenseNetworkModel(table, cache=cache),
    "DenseNetworkModel, id": lambda table, cache: DenseNetworkModel(
        config=DenseNetworkConfig(model_source="id"), cache=cache
    ),
    BRADLEY_TERRY: lambda table, cache: BradleyTerry(),
    "Elo": lambda table, cache: Elo(),
    "matrix factorisation": lambda table, cache: MatrixFactorisation(cache=cache),
    "nearest-neighbour prompts": lambda table, cache: NearestPrompts(cache=cache),
    "longer response (mean length)": lambda table, cache: LongerResponse(),
    "style control": lambda table, cache: StyleControl(),
}


@dataclass(frozen=True)
class Calibrations:
    """The dense network on the same votes.

    Attributes:
        figures: figures by calibration: none, temperature, isotonic.
        floor: calibration error that a perfect model with the same confidences has on as many independent votes.
    """

    figures: Mapping[str, Stage2Figures]
    floor: float


@dataclass(frozen=True)
class SeedResult:
    """Everything measured on one split.

    Attributes:
        cells: figures by method and cell.
        length_control: figures by method, on new prompts.
        responses_seen: the longer of the two very responses, where the cell has votes.
        oracle: Bradley-Terry that knows the new LLMs' votes.
        cold_start: figures of new LLMs by number of responses.
        learning: figures by share of votes, and method.
        calibrations: calibrations of the dense network on new prompts; None without votes there.
        reliability: reliability of the dense network there.
        held_out: LLMs that were held out.
    """

    cells: Mapping[str, Mapping[Cell, Stage2Figures]]
    length_control: Mapping[str, LengthControl]
    responses_seen: Mapping[Cell, Stage2Figures]
    oracle: Stage2Figures | None
    cold_start: Mapping[int, ColdStartFigures]
    learning: Mapping[float, Mapping[str, Stage2Figures]]
    calibrations: Calibrations | None
    reliability: tuple[ReliabilityBin, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class Stage2Result:
    """One vote file.

    Attributes:
        seeds: predictions by seed; none where only ratings were measured.
        cells: ratings of new LLMs, over all seeds.
    """

    name: str
    n_votes: int
    n_models: int
    n_prompts: int
    seeds: tuple[SeedResult, ...]
    cells: tuple[RatingCell, ...]


def run_stage2_benchmark(name: str, votes: TrainingData, plan: Stage2Plan, runtime: Runtime) -> Stage2Result:
    """Trains both stages and all baselines on every split, and measures."""
    seeds, readings = [], []
    for seed in range(plan.seeds):
        runtime.monitor.on_progress(f"{name}, seeds", seed, plan.seeds)
        held_out = draw_held_out(votes.pairs.models, plan.held_out_share, np.random.default_rng(seed))
        split = ValidationSplit(plan.validation_fraction, seed, held_out_models=held_out)
        encoder, prepared = train_on_split(votes, split, plan, runtime)
        if plan.predictions:
            material = embed_pairs_for_stage2(encoder, prepared, plan.batch_size)
            seeds.append(measure_seed(material, plan, held_out, seed, runtime.cache))
        if held_out:
            readings.append(measure_cells_of_votes(encoder, prepared, votes, plan, runtime))
    runtime.monitor.on_progress(f"{name}, seeds", plan.seeds, plan.seeds)
    n_models, n_prompts = len(votes.pairs.models), len(votes.pairs.prompts)
    return Stage2Result(name, len(votes), n_models, n_prompts, tuple(seeds), summarise_cells(readings))


def train_on_split(
    votes: TrainingData, split: ValidationSplit, plan: Stage2Plan, runtime: Runtime
) -> tuple[ModelBehaviorEncoder, PreprocessedBehaviorEncoderData]:
    """Stage 1 trained on the split, and the filtered votes with the split as it was trained on."""
    encoder = ModelBehaviorEncoder(config=EncoderConfig(seed=split.seed), runtime=runtime)
    encoder.train(votes, split, plan.epochs, plan.batch_size)
    prepared = BehaviorEmbeddingPreprocessor(runtime.cache, encoder.config.preprocessing).preprocess(votes, split)
    return encoder, prepared


def embed_pairs_for_stage2(
    encoder: ModelBehaviorEncoder, prepared: PreprocessedBehaviorEncoderData, batch_size: int
) -> Stage2Material:
    """Embeds every pair and divides the votes for stage 2."""
    pairs = prepared.data.pairs
    prompts = pairs.prompts.take(pairs.prompt_index).to_pylist()
    embeddings = encoder.encode(prompts, pairs.responses.to_pylist(), batch_size)
    return prepare_stage2(prepared, embeddings, features_of_pairs(encoder, pairs, batch_size), encoder.config.seed)


def measure_seed(
    material: Stage2Material, plan: Stage2Plan, held_out: tuple[str, ...], seed: int, cache: ContentCache
) -> SeedResult:
    """All methods on one split."""
    votes = votes_of_cells(material.test, material.fit)
    models = {name: _fitted(factory, material, material.fit, cache) for name, factory in METHODS.items()}
    network, longer = models[DENSE_NETWORK], models["longer response (mean length)"]
    assert isinstance(network, DenseNetworkModel) and isinstance(longer, LongerResponse)
    cold_start = {}
    if len(material.pool):
        cold_start = {k: measure_cold_start(network, material, k, plan.draws, seed) for k in ENROLMENT_SIZES}
        network.enrol(draw_enrolment(material, _ENROL_FOR_CELLS, np.random.default_rng(seed)))
    new_prompts = votes.get(NEW_PROMPTS)
    return SeedResult(
        cells={name: measure_cells(model, votes, seed) for name, model in models.items()},
        length_control={}
        if new_prompts is None
        else {
            name: control_predictions(predict_votes(m, new_prompts), new_prompts, seed) for name, m in models.items()
        },
        responses_seen=_measure_lengths(longer, votes, seed),
        oracle=measure_oracle(material, seed),
        cold_start=cold_start,
        learning=_learning_curve(material, seed, cache),
        calibrations=None if new_prompts is None else compare_calibrations(network, new_prompts, seed),
        reliability=()
        if new_prompts is None
        else tuple(reliability(predict_votes(network, new_prompts), new_prompts.outcome)),
        held_out=held_out,
    )


def compare_calibrations(network: DenseNetworkModel, votes: ScoringVotes, seed: int) -> Calibrations | None:
    """Applies each calibration to the same predictions; None where nothing was held out to fit one to."""
    held_out = network.held_out
    if held_out is None or not len(held_out.outcome):
        return None
    fitted = network.temperature
    network.temperature = Temperature()
    try:
        raw = predict_votes(network, votes)
    finally:
        network.temperature = fitted
    predicted = {"none": raw, "temperature": fitted.apply(raw), "isotonic": calibrate_isotonic(held_out, raw)}
    measured = {name: measure_stage2(probabilities, votes, seed) for name, probabilities in predicted.items()}
    figures = {name: value for name, value in measured.items() if value is not None}
    return Calibrations(figures, simulate_floor(predicted["temperature"], np.random.default_rng(seed)))


def calibrate_isotonic(held_out: HeldOutVotes, probabilities: FloatArray) -> Float32Array:
    """Isotonic regression of each outcome on its probability, normalised (Zadrozny and Elkan 2002), [n, 4].

    Args:
        held_out: votes to fit to.
        probabilities: probabilities to calibrate, [n, 4].
    """
    columns = []
    for outcome in range(held_out.probabilities.shape[1]):
        curve = IsotonicRegression(y_min=_LEAST, y_max=1 - _LEAST, out_of_bounds="clip")
        curve.fit(held_out.probabilities[:, outcome], (held_out.outcome == outcome).astype(np.float64))
        columns.append(curve.predict(probabilities[:, outcome]))
    values = np.stack(columns, axis=1)
    normalised: Float32Array = (values / values.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def simulate_floor(probabilities: FloatArray, rng: np.random.Generator) -> float:
    """Mean expected calibration error where outcomes are drawn from the probabilities themselves.

    Args:
        probabilities: [n, 4].
        rng: generator of the draws.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    errors = [
        expected_calibration_error(confidence, (rng.random(len(confidence)) < confidence).astype(np.float64))
        for _ in range(_SIMULATIONS)
    ]
    return float(np.mean(errors))


def _fitted(factory: Factory, material: Stage2Material, votes: ScoringVotes, cache: ContentCache) -> ModelBase:
    model = factory(material.known, cache)
    model.fit(votes)
    return model


def _measure_lengths(model: LongerResponse, votes: Mapping[Cell, ScoringVotes], seed: int) -> dict[Cell, Stage2Figures]:
    measured = {}
    for cell, chosen in votes.items():
        if (figures := measure_stage2(model.predict_responses(chosen), chosen, seed)) is not None:
            measured[cell] = figures
    return measured


def _learning_curve(material: Stage2Material, seed: int, cache: ContentCache) -> dict[float, dict[str, Stage2Figures]]:
    """Figures on new prompts after fitting to the first share of the votes in a random order."""
    order = np.random.default_rng(seed).permutation(len(material.fit))
    curve: dict[float, dict[str, Stage2Figures]] = {}
    for share in VOTE_SHARES:
        some = select_scoring_votes(material.fit, order[: max(1, round(share * len(order)))])
        test = votes_of_cells(material.test, some).get(NEW_PROMPTS)
        if test is None:
            continue
        curve[share] = {}
        for name in (DENSE_NETWORK, BRADLEY_TERRY):
            cells = measure_cells(_fitted(METHODS[name], material, some, cache), {NEW_PROMPTS: test}, seed)
            if NEW_PROMPTS in cells:
                curve[share][name] = cells[NEW_PROMPTS]
    return curve

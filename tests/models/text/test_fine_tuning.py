"""Fine-tuning learns what it should, changes only what it may, and comes back bit by bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model_behavior.arrays import Arrays
from model_behavior.artifact import Artifact
from model_behavior.catalog import ModelEmbeddings
from model_behavior.data.arena import Arena, write_votes
from model_behavior.data_models.training_log import EpochLog
from model_behavior.data_models.votes import TrainingData, ValidationSplit
from model_behavior.errors import ArtifactError, CollapseError, UsageError
from model_behavior.models.behavior import metrics
from model_behavior.models.behavior.batches import draw_batches_by_prompt, embed_batch
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime, SilentMonitor
from model_behavior.models.behavior.objectives import ObjectiveConfig
from model_behavior.models.behavior.projection import ProjectionConfig
from model_behavior.models.behavior.text import execution
from model_behavior.models.behavior.text.execution import Precision
from model_behavior.models.behavior.text.fine_tuning import (
    FineTuner,
    FineTuningConfig,
    TuningMode,
    choose_tuned_weights,
    tuned_weights,
)
from model_behavior.models.behavior.text.registry import (
    make_text_encoders,
    text_encoders_from_state,
    text_encoders_to_state,
)
from model_behavior.models.behavior.text.transformer import PairTransformer, ReadingConfig
from model_behavior.models.behavior.text.transformer_encoders import FineTunedEncoder
from model_behavior.models.behavior.validation import EncoderVotes
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.cache import ContentCache
from tests.conftest import answer
from tests.models.text.tiny_transformer import N_MODELS, make_marked_votes, write_tiny_bert

# Imported by the tests alone, since it takes seconds, and every process collects all files.
pytestmark = pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="the extra semantic is missing")

SHORT = FineTuningConfig(steps=6, rounds=3, batch_size=8, micro_batch=64, learning_rate=3e-3, validation_pairs=60)
SPLIT = ValidationSplit(0.3, seed=2)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="module")
def marked() -> TrainingData:
    return make_marked_votes()


@pytest.fixture(scope="module")
def votes(marked: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> EncoderVotes:
    preprocessor = BehaviorEmbeddingPreprocessor(ContentCache(tmp_path_factory.mktemp("cache")))
    prepared = preprocessor.preprocess(marked, SPLIT)
    return EncoderVotes(prepared, preprocessor.sampler(prepared), seed=1)


def reading(bert: str, precision: Precision = "f32") -> ReadingConfig:
    return ReadingConfig(bert, prompt_tokens=4, response_tokens=10, precision=precision)


def encoder(bert: str, tuning: FineTuningConfig = SHORT) -> FineTunedEncoder:
    return FineTunedEncoder(bert, prompt_tokens=4, response_tokens=10, tuning=tuning)


def tune(
    transformer: PairTransformer, votes: EncoderVotes, config: FineTuningConfig
) -> tuple[FineTuner, dict[str, Arrays]]:
    """The tuner after its run, and the transformer's weights before and after."""
    before = values_of(transformer)
    tuner = FineTuner(transformer, votes, config)
    tuner.run(lambda done, total: None, lambda log: None)
    return tuner, {"before": before, "after": values_of(transformer)}


def values_of(transformer: PairTransformer) -> Arrays:
    return {name: value.detach().numpy().copy() for name, value in transformer.network.state_dict().items()}


class Interrupt(SilentMonitor):
    def __init__(self, after_round: int = 99) -> None:
        self.after_round = after_round
        self.seen: list[int] = []

    def on_tuning_round(self, log: EpochLog) -> None:
        self.seen.append(log.epoch)
        if log.epoch == self.after_round:
            raise KeyboardInterrupt


class TestLearning:
    def test_the_loss_falls_and_models_are_recognised(self, bert: str, votes: EncoderVotes) -> None:
        config = replace(SHORT, steps=100, rounds=2, batch_size=16, validation_pairs=150)
        transformer = PairTransformer(reading(bert))
        side, pairs = votes.validation(150)

        def recognised() -> float:
            unit = metrics.normalise(transformer.encode(*votes.texts(pairs), batch_size=64))
            known = metrics.centroids(unit[side.train_pairs], side.model[side.train_pairs], N_MODELS)
            held = side.validation_pairs
            return float(metrics.identification_hits(unit[held], side.model[held], known).mean())

        untrained = recognised()
        tuner, _ = tune(transformer, votes, config)
        assert untrained < 0.45, "what tells the models apart drowns in the topic"
        assert recognised() > 0.75
        assert tuner.history[-1].train_loss < 0.7 * tuner.history[0].train_loss
        assert max(log.triplet_accuracy for log in tuner.history) > 0.75

    def test_the_best_round_is_what_stays(self, bert: str, votes: EncoderVotes) -> None:
        transformer = PairTransformer(reading(bert))
        kept: list[Arrays] = []
        tuner = FineTuner(transformer, votes, replace(SHORT, steps=12, rounds=4))
        tuner.run(lambda done, total: None, lambda log: kept.append(values_of(transformer)))
        accuracy = [log.triplet_accuracy for log in tuner.history]
        for name, value in values_of(transformer).items():
            np.testing.assert_array_equal(value, kept[accuracy.index(max(accuracy))][name])

    def test_several_models_answers_to_a_prompt_share_a_batch(self, votes: EncoderVotes) -> None:
        triplets = votes.sampler.sample(np.random.default_rng(0))
        prompt = votes.sampler.prompt[triplets.anchor]
        for rows in draw_batches_by_prompt(prompt, 12, np.random.default_rng(0))[:-1]:
            batch = embed_batch(triplets, rows, votes.sampler, lambda pairs: torch.zeros(len(pairs), 2))
            asked = batch.prompt[torch.cat([batch.anchor, batch.negative])]
            answered = torch.cat([batch.anchor, batch.negative])
            shared = [len(set(batch.model[answered[asked == each]].tolist())) for each in set(asked.tolist())]
            assert np.mean(shared) > 2.5

    def test_collapse_stops_it(self, bert: str, votes: EncoderVotes) -> None:
        config = replace(
            SHORT,
            learning_rate=0.05,
            steps=60,
            objectives=ObjectiveConfig(triplet=0.001, proxy=0, vote=0, compactness=100),
        )
        with pytest.raises(CollapseError, match="collapsed"):
            tune(PairTransformer(reading(bert)), votes, config)


class TestTunedWeights:
    @pytest.mark.parametrize("mode", ["full", "last-layers", "lora"])
    def test_only_what_may_change_does(self, bert: str, votes: EncoderVotes, mode: TuningMode) -> None:
        transformer = PairTransformer(reading(bert))
        _, values = tune(transformer, votes, replace(SHORT, mode=mode, last_layers=1))
        before, after = values["before"], values["after"]
        if mode == "lora":  # W is stored beside the difference
            stored = {name.replace("parametrizations.", "").replace(".original", ""): name for name in after}
            assert sum(".parametrizations." in name and name.endswith(".b") for name in after) == 2 * 6
            assert all(np.abs(after[name]).max() > 0 for name in after if name.endswith("weight.0.b"))
            after = {name: after[stored[name]] for name in before}
        changed = {name for name in before if not np.array_equal(before[name], after[name])}
        allowed = {
            "full": lambda name: True,
            "last-layers": lambda name: ".layer.1." in name,
            "lora": lambda name: False,
        }
        may: Callable[[str], bool] = allowed[mode]
        assert all(may(name) for name in changed)
        assert {name for name in before if may(name) and "pooler" not in name and "position_ids" not in name} <= changed

    def test_a_low_rank_difference_by_hand(self) -> None:
        torch.manual_seed(0)
        network = nn.Sequential(nn.ModuleList([nn.Linear(3, 2)]))
        linear = next(module for module in network.modules() if isinstance(module, nn.Linear))
        frozen = linear.weight.detach().clone()
        choose_tuned_weights(network, FineTuningConfig(mode="lora", lora_rank=2, lora_alpha=6))
        torch.testing.assert_close(linear.weight, frozen)
        weights = tuned_weights(network)
        a, b = (next(value for name, value in weights.items() if name.endswith(end)) for end in (".a", ".b"))
        assert len(weights) == 2
        with torch.no_grad():
            b.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        expected = frozen + 6 / 2 * torch.stack([a[0], 2 * a[1]])
        torch.testing.assert_close(linear.weight, expected)

    def test_more_layers_than_there_are(self, bert: str) -> None:
        transformer = PairTransformer(reading(bert))
        with pytest.raises(UsageError, match=r"last_layers=3, but the transformer has 2"):
            choose_tuned_weights(transformer.network, FineTuningConfig(mode="last-layers", last_layers=3))


class TestMemoryAndPrecision:
    def gradients(self, bert: str, votes: EncoderVotes, config: FineTuningConfig) -> dict[str, torch.Tensor]:
        transformer = PairTransformer(reading(bert))
        tuner = FineTuner(transformer, votes, config)
        triplets = votes.sampler.sample(np.random.default_rng(0))
        # Without dropout, whose draws depend on how the batch is cut.
        batch = embed_batch(
            triplets, np.arange(16), votes.sampler, lambda pairs: tuner._embed(pairs, np.random.default_rng(0))
        )
        loss, _ = tuner._objective(batch)
        loss.backward()
        return {name: weight.grad for name, weight in tuner._tuned.items() if weight.grad is not None}

    @pytest.mark.parametrize("mode", ["full", "lora"])
    def test_micro_batches_give_the_same_gradient(self, bert: str, votes: EncoderVotes, mode: TuningMode) -> None:
        config = replace(SHORT, mode=mode, objectives=ObjectiveConfig(contrastive=1.0))
        whole = self.gradients(bert, votes, replace(config, micro_batch=1000))
        cut = self.gradients(bert, votes, replace(config, micro_batch=5))
        assert whole.keys() == cut.keys() and whole
        for name in whole:
            torch.testing.assert_close(cut[name], whole[name], atol=2e-5, rtol=1e-3)

    def test_dropout_is_the_same_when_activations_are_computed_again(self, bert: str, votes: EncoderVotes) -> None:
        transformer = PairTransformer(reading(bert))
        tuner = FineTuner(transformer, votes, replace(SHORT, micro_batch=4))
        transformer.train()
        pairs = np.arange(8)
        kept: list[torch.Tensor] = []
        embeddings = transformer.network.get_submodule("model.embeddings")
        embeddings.register_forward_hook(lambda module, inputs, output: kept.append(output.detach().clone()))
        tuner._embed(pairs, np.random.default_rng(0)).square().sum().backward()  # type: ignore[no-untyped-call]
        first, again = kept[:2], kept[2:]
        assert all((each == 0).any() for each in first), "dropout is on"
        assert len(again) == 2
        for each in first:
            assert any(torch.equal(each, other) for other in again)

    def test_dropout_of_a_micro_batch_does_not_depend_on_the_others(self, bert: str, votes: EncoderVotes) -> None:
        transformer = PairTransformer(reading(bert))
        tuner = FineTuner(transformer, votes, SHORT)
        transformer.train()
        token_ids = transformer.tokenize(*votes.texts(np.arange(9)))
        both = tuner._pool([token_ids[:5], token_ids[5:]], [7, 8])
        assert torch.equal(tuner._pool([token_ids[5:]], [8]), both[5:])
        assert not torch.equal(tuner._pool([token_ids[5:]], [7]), both[5:])
        nothing = tuner._pool([], [])  # of a process that has none; its gradients are asked for all the same
        assert nothing.shape == (0, 32) and nothing.requires_grad

    def test_bf16_autocast_runs_with_f32_weights(
        self, bert: str, votes: EncoderVotes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(execution, "_processor_has_bf16", lambda: True)
        transformer = PairTransformer(reading(bert, "bf16"))
        tuner, _ = tune(transformer, votes, replace(SHORT, steps=2, rounds=1))
        assert np.isfinite(tuner.history[0].train_loss)
        assert {weight.dtype for weight in transformer.parameters()} == {torch.float32}
        exact = PairTransformer(reading(bert))
        exact.network.load_state_dict(transformer.network.state_dict())
        texts = votes.texts(np.arange(6))
        rounded, full = transformer.encode(*texts, batch_size=6), exact.encode(*texts, batch_size=6)
        assert 0 < np.abs(rounded - full).max() < 0.1


class TestEncoder:
    @pytest.mark.parametrize("mode", ["full", "lora"])
    def test_every_backend_runs_the_tuned_weights(
        self, bert: str, votes: EncoderVotes, mode: TuningMode, tmp_path: Path
    ) -> None:
        pytest.importorskip("openvino")
        runtime = Runtime(ContentCache(tmp_path))
        untuned = FineTunedEncoder(
            bert,
            prompt_tokens=4,
            response_tokens=10,
            precision="f32",
            tuning=replace(SHORT, mode=mode, steps=2, rounds=1),
            backend="torch",
        )
        tuned = untuned.fitted_on(votes, runtime)
        texts = votes.texts(np.arange(7))
        expected = tuned.encode(*texts, batch_size=4)
        backbone = PairTransformer(reading(bert)).encode(*texts, batch_size=4)
        assert np.abs(expected - backbone).max() > 1e-3
        tuned.use_cache(runtime.cache)
        for backend in ("openvino", "onnxruntime"):
            tuned.use_backend(backend)
            np.testing.assert_allclose(tuned.encode(*texts, batch_size=4), expected, rtol=0, atol=1e-5)

    def test_it_must_be_tuned_first(self, bert: str) -> None:
        with pytest.raises(UsageError, match="not tuned yet"):
            encoder(bert).encode(["a"], ["b"], batch_size=1)

    @pytest.mark.parametrize("mode", ["full", "last-layers", "lora"])
    def test_saved_and_loaded_it_is_the_same(
        self, bert: str, votes: EncoderVotes, tmp_path: Path, mode: TuningMode
    ) -> None:
        untuned = encoder(bert, replace(SHORT, mode=mode, last_layers=1, steps=2, rounds=1))
        tuned = untuned.fitted_on(votes, Runtime(ContentCache(tmp_path)))
        entries, arrays = text_encoders_to_state([tuned])
        (loaded,) = text_encoders_from_state(json.loads(json.dumps(entries)), arrays)
        texts = votes.texts(np.arange(20))
        np.testing.assert_array_equal(loaded.encode(*texts, batch_size=7), tuned.encode(*texts, batch_size=7))
        assert loaded.fingerprint == tuned.fingerprint != untuned.fingerprint
        assert loaded.config == untuned.config
        name = sorted(arrays)[0]
        with pytest.raises(ArtifactError, match="differs from the one"):
            text_encoders_from_state(entries, {**arrays, name: arrays[name] + 1})

    def test_saved_by_an_earlier_release_it_loads_where_what_is_gone_was_off(
        self, bert: str, votes: EncoderVotes, tmp_path: Path
    ) -> None:
        tuned = encoder(bert, replace(SHORT, steps=2, rounds=1)).fitted_on(votes, Runtime(ContentCache(tmp_path)))
        (entry,), arrays = text_encoders_to_state([tuned])
        entry = json.loads(json.dumps(entry))
        entry["config"]["tuning"]["objectives"] |= {"mining": "none", "proxy_margin": 0.0, "vote_ties": False}
        with pytest.raises(ArtifactError, match="differs from the one"):
            text_encoders_from_state([entry], arrays)  # the fingerprint is of what was saved
        entry["fingerprint"] = tuned.fingerprint_with(entry["config"])
        (loaded,) = text_encoders_from_state([entry], arrays)
        texts = votes.texts(np.arange(20))
        np.testing.assert_array_equal(loaded.encode(*texts, batch_size=7), tuned.encode(*texts, batch_size=7))
        assert loaded.fingerprint == tuned.fingerprint
        entry["config"]["tuning"]["objectives"]["mining"] = "semi-hard"
        with pytest.raises(ArtifactError, match="mining='semi-hard'.*train it again"):
            text_encoders_from_state([entry], arrays)

    def test_an_interrupted_tuning_goes_on_to_the_same_weights(
        self, bert: str, votes: EncoderVotes, tmp_path: Path
    ) -> None:
        whole = encoder(bert).fitted_on(votes, Runtime(ContentCache(tmp_path / "one")))
        runtime = Runtime(ContentCache(tmp_path / "two"), Interrupt(1), tmp_path / "state")
        with pytest.raises(KeyboardInterrupt):
            encoder(bert).fitted_on(votes, runtime)
        monitor = Interrupt()
        resumed = encoder(bert).fitted_on(votes, replace(runtime, monitor=monitor, resume=True))
        assert monitor.seen == [1, 2, 3]
        assert resumed.fingerprint == whole.fingerprint
        assert [replace(log, seconds=0.0) for log in resumed.history] == [
            replace(log, seconds=0.0) for log in whole.history
        ]

    def test_the_same_tuning_is_done_once(self, bert: str, votes: EncoderVotes, tmp_path: Path) -> None:
        monitor = Interrupt()
        runtime = Runtime(ContentCache(tmp_path), monitor)
        first, again = (encoder(bert).fitted_on(votes, runtime) for _ in range(2))
        other = encoder(bert).fitted_on(replace(votes, seed=5), runtime)
        assert monitor.seen == [1, 2, 3, 1, 2, 3]
        assert first.fingerprint == again.fingerprint != other.fingerprint

    def test_global_generators_stay_as_they_were(self, bert: str, votes: EncoderVotes, tmp_path: Path) -> None:
        before = torch.get_rng_state()
        encoder(bert, replace(SHORT, steps=1, rounds=1)).fitted_on(votes, Runtime(ContentCache(tmp_path)))
        torch.testing.assert_close(torch.get_rng_state(), before)


def test_a_composition_trains_is_saved_and_comes_back(bert: str, marked: TrainingData, tmp_path: Path) -> None:
    reading = {"model": bert, "prompt_tokens": 4, "response_tokens": 10}
    configs = {"semantic": reading, "finetuned": {**reading, "tuning": {"steps": 4, "rounds": 2, "batch_size": 8}}}
    encoders = make_text_encoders(["style", "lexical", "semantic", "finetuned"], configs)
    small = EncoderConfig(projection=ProjectionConfig(dim=8, hidden=16))
    monitor, checkpoint = Interrupt(), tmp_path / "state"
    behavior = ModelBehaviorEncoder(encoders, small, Runtime(ContentCache(tmp_path / "cache"), monitor, checkpoint))
    behavior.train(marked, SPLIT, epochs=1, batch_size=64)
    assert monitor.seen == [1, 2]
    texts = ["t1 t2"] * 3, ["t1 m0 t3", "t1 m1 t3", ""]
    vectors = behavior.encode(*texts, batch_size=2)
    models = ModelEmbeddings(("one",), vectors[:1], np.array([1]), np.zeros(1, np.float32))
    Artifact(behavior, models).save(tmp_path / "saved")
    loaded = Artifact.load(tmp_path / "saved").encoder
    loaded.runtime = Runtime(ContentCache(tmp_path / "other"))
    np.testing.assert_array_equal(loaded.encode(*texts, batch_size=2), vectors)


def test_the_command_line_tunes_and_composes(
    bert: str, marked: TrainingData, arena: Arena, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_votes(replace(arena, votes=marked), tmp_path / "votes.parquet")
    output = tmp_path / "trained"
    sources = ["train-encoder", tmp_path / "votes.parquet", "--output", output, "--epochs", 1]
    (tmp_path / "lora.toml").write_text(
        f'[text.reading]\nmodel = "{bert}"\nprompt_tokens = 4\nresponse_tokens = 10\n'
        '[text.tuning]\nmode = "lora"\nsteps = 2\nrounds = 1\n'
    )
    encoders = ["--encoder", "style", "--encoder", "finetuned", "--config", tmp_path / "lora.toml"]
    assert answer(capsys, *sources, *encoders)["models"] > 1
    style, tuned = Artifact.load(output).encoder.text_encoders
    assert style.name == "style"
    assert tuned.config["tuning"]["mode"] == "lora"
    assert tuned.tensors()
    assert not list(tmp_path.glob(".trained.checkpoint*")), "no checkpoint is left"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "half"}, "full, last-layers, lora"),
        ({"steps": 2, "rounds": 3}, "every round needs at least one step"),
        ({"warmup": 1.0}, "warmup"),
        ({"micro_batch": 0}, "micro_batch=0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
    ],
)
def test_settings_that_cannot_be_meant(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FineTuningConfig.from_json(values)

"""Training goes on exactly where it stopped, keeps the best epoch, and says when it has collapsed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model_behavior.data.arena import Arena
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.training_log import EpochLog
from model_behavior.data_models.votes import Outcome, ValidationSplit
from model_behavior.errors import ArtifactError, CollapseError, DataError, UsageError
from model_behavior.models.behavior import training_setup
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.behavior.monitor import Runtime, SilentMonitor
from model_behavior.models.behavior.objectives import ObjectiveConfig
from model_behavior.models.behavior.projection import ProjectionConfig
from model_behavior.models.behavior.text.style import StyleEncoder
from model_behavior.models.behavior.training import OptimisationConfig
from model_behavior.preprocessing.cache import ContentCache
from tests.conftest import VoteRow, make_votes

SPLIT = ValidationSplit(0.25, seed=5)
SMALL = EncoderConfig(projection=ProjectionConfig(dim=16, hidden=32))


class StopAfter(SilentMonitor):
    """Interrupts the run after an epoch, as Ctrl-C would."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.seen: list[int] = []

    def on_epoch(self, log: EpochLog) -> None:
        self.seen.append(log.epoch)
        if log.epoch == self.epoch:
            raise KeyboardInterrupt


def make(
    runtime: Runtime, config: EncoderConfig = SMALL, encoder: TextEncoderBase | None = None
) -> ModelBehaviorEncoder:
    return ModelBehaviorEncoder([encoder or StyleEncoder()], config, runtime)


def figures(log: EpochLog) -> EpochLog:
    return replace(log, seconds=0.0)


def test_resumed_training_equals_an_uninterrupted_one(arena: Arena, tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "cache")
    whole = make(Runtime(cache))
    whole.train(arena.votes, SPLIT, epochs=5, batch_size=128)

    checkpoint = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        make(Runtime(cache, StopAfter(2), checkpoint)).train(arena.votes, SPLIT, epochs=5, batch_size=128)
    monitor = StopAfter(99)
    resumed = make(Runtime(cache, monitor, checkpoint, resume=True))
    resumed.train(arena.votes, SPLIT, epochs=5, batch_size=128)

    assert monitor.seen == [1, 2, 3, 4, 5]
    assert [figures(log) for log in resumed.history] == [figures(log) for log in whole.history]
    expected, found = whole.get_state_dict()["tensors"], resumed.get_state_dict()["tensors"]
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_array_equal(expected[name], found[name], err_msg=name)


def test_a_checkpoint_of_another_run_is_refused(arena: Arena, tmp_path: Path) -> None:
    runtime = Runtime(ContentCache(tmp_path / "cache"), StopAfter(1), tmp_path / "state")
    with pytest.raises(KeyboardInterrupt):
        make(runtime).train(arena.votes, SPLIT, epochs=3, batch_size=128)
    resume = replace(runtime, resume=True, monitor=SilentMonitor())
    with pytest.raises(ArtifactError, match="other votes or settings"):
        make(resume, replace(SMALL, seed=1)).train(arena.votes, SPLIT, epochs=3, batch_size=128)
    (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:-7])
    with pytest.raises(ArtifactError, match="start the training anew"):
        make(resume).train(arena.votes, SPLIT, epochs=3, batch_size=128)


def test_the_epoch_with_the_best_triplet_accuracy_is_kept(arena: Arena, tmp_path: Path) -> None:
    """Training anew for just as many epochs as the best one had would end elsewhere, since the rate decays."""
    kept: dict[int, np.ndarray] = {}

    class Keep(SilentMonitor):
        def on_epoch(self, log: EpochLog) -> None:
            state = np.concatenate([value.flatten() for value in head_values(encoder)])
            kept[log.epoch] = state

    def head_values(owner: ModelBehaviorEncoder) -> list[np.ndarray]:
        from model_behavior.preprocessing.entry_file import read_entry

        arrays = read_entry(tmp_path / "state").arrays
        return [arrays[f"now.head.{name}"] for name in ("output.weight", "output.bias")]

    runtime = Runtime(ContentCache(tmp_path / "cache"), Keep(), tmp_path / "state")
    fast = replace(SMALL, optimisation=OptimisationConfig(learning_rate=0.02))
    encoder = make(runtime, fast)
    encoder.train(arena.votes, SPLIT, epochs=6, batch_size=64)
    accuracies = [log.triplet_accuracy for log in encoder.history]
    best = accuracies.index(max(accuracies)) + 1
    tensors = encoder.get_state_dict()["tensors"]
    final = np.concatenate([tensors["head.output.weight"].flatten(), tensors["head.output.bias"]])
    np.testing.assert_array_equal(final, kept[best])


def test_same_seed_same_result_other_seed_other_result(arena: Arena, tmp_path: Path) -> None:
    cache = ContentCache(tmp_path)
    states = []
    for seed in (0, 0, 1):
        encoder = make(Runtime(cache), replace(SMALL, seed=seed))
        encoder.train(arena.votes, SPLIT, epochs=1, batch_size=128)
        states.append(encoder.get_state_dict()["tensors"]["head.output.weight"])
    np.testing.assert_array_equal(states[0], states[1])
    assert not np.array_equal(states[0], states[2])


def test_an_epoch_has_no_more_triplets_than_it_may(arena: Arena, tmp_path: Path) -> None:
    cache = ContentCache(tmp_path / "cache")
    config = replace(SMALL, optimisation=OptimisationConfig(epoch_triplets=300))
    encoder = make(Runtime(cache), config)
    encoder.train(arena.votes, SPLIT, epochs=2, batch_size=128)
    assert [log.n_triplets for log in encoder.history] == [300, 300]
    assert encoder.history[0].train_loss > 0
    with pytest.raises(UsageError, match="epoch_triplets=0"):
        OptimisationConfig(epoch_triplets=0)


def test_with_many_pairs_epochs_are_compared_on_some(
    arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ContentCache(tmp_path / "cache")
    monkeypatch.setattr(training_setup, "_MOST_VALIDATED", 150)
    some = make(Runtime(cache))
    some.train(arena.votes, SPLIT, epochs=3, batch_size=128)
    monkeypatch.undo()
    whole = make(Runtime(cache))
    whole.train(arena.votes, SPLIT, epochs=3, batch_size=128)
    assert [log.train_loss for log in some.history] == [log.train_loss for log in whole.history]
    for one, other in zip(some.history, whole.history, strict=True):
        assert one.triplet_accuracy != other.triplet_accuracy
        assert one.triplet_accuracy == pytest.approx(other.triplet_accuracy, abs=0.2)


def test_training_learns_and_does_not_touch_the_global_generators(arena: Arena, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(11)
    before = torch.get_rng_state()
    encoder = make(Runtime(ContentCache(tmp_path)))
    encoder.train(arena.votes, SPLIT, epochs=4, batch_size=128)
    assert torch.equal(before, torch.get_rng_state())
    first, last = encoder.history[0], encoder.history[-1]
    assert last.train_loss < first.train_loss
    assert max(log.triplet_accuracy for log in encoder.history) > 0.7
    assert last.identification is not None and last.identification > 5 / len(arena.votes.pairs.models)
    assert set(last.train_terms) == {"triplet", "proxy", "vote"}


@pytest.mark.parametrize(
    ("objectives", "terms"),
    [
        (ObjectiveConfig(distance="euclidean", margin=0.5, proxy=0, vote=0), {"triplet"}),
        (ObjectiveConfig(compactness=0.5, kl=0.1), {"triplet", "proxy", "vote", "compactness", "kl"}),
        (ObjectiveConfig(proxy=0, contrastive=0.2), {"triplet", "contrastive", "vote"}),
    ],
)
def test_every_objective_trains(arena: Arena, tmp_path: Path, objectives: ObjectiveConfig, terms: set[str]) -> None:
    encoder = make(Runtime(ContentCache(tmp_path)), replace(SMALL, objectives=objectives))
    encoder.train(arena.votes, SPLIT, epochs=3, batch_size=128)
    assert set(encoder.history[-1].train_terms) == terms
    assert encoder.history[-1].triplet_accuracy > 0.6
    if not objectives.vote:
        with pytest.raises(UsageError, match="vote term off"):
            encoder.rate(np.zeros((1, 16), np.float32))


def test_collapse_stops_the_run_with_its_reason(arena: Arena, tmp_path: Path) -> None:
    """Compactness alone against the triplets' margin pulls everything into one point."""
    objectives = ObjectiveConfig(triplet=1e-6, proxy=0, vote=0, compactness=100)
    config = replace(SMALL, objectives=objectives, optimisation=OptimisationConfig(learning_rate=0.05))
    with pytest.raises(CollapseError, match=r"collapsed.*stuck at the margin.*[Ll]ower"):
        make(Runtime(ContentCache(tmp_path)), config).train(arena.votes, SPLIT, epochs=30, batch_size=64)


def test_too_few_votes_say_so(tmp_path: Path) -> None:
    rows: list[VoteRow] = [(f"p{i}", "x", f"x{i}", "y", f"y{i}", Outcome.BOTH_BAD) for i in range(40)]
    with pytest.raises(DataError, match=r"no training triplet can be formed \(\d+ x no winning pair"):
        make(Runtime(ContentCache(tmp_path))).train(make_votes(rows), SPLIT, epochs=1, batch_size=8)
    with pytest.raises(UsageError, match="epochs=0"):
        make(Runtime(ContentCache(tmp_path))).train(make_votes(rows), SPLIT, epochs=0, batch_size=8)


def test_the_monitor_sees_filters_and_progress(arena: Arena, tmp_path: Path) -> None:
    class Record(SilentMonitor):
        tasks: set[str] = set()  # noqa: RUF012
        votes = 0

        def on_prepared(self, prepared: PreprocessedBehaviorEncoderData) -> None:
            self.votes = prepared.filter_report.votes_after

        def on_progress(self, task: str, done: int, total: int) -> None:
            assert 0 < done <= total
            self.tasks.add(task)

    monitor = Record()
    make(Runtime(ContentCache(tmp_path), monitor)).train(arena.votes, SPLIT, epochs=1, batch_size=128)
    assert monitor.votes == len(arena.votes)
    assert monitor.tasks == {"filters", "features: style", "training"}

"""Features that workers, or the processes of a group, encode into the cache are those that training would encode."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_behavior.artifact import Artifact
from model_behavior.data.arena import build_arena
from model_behavior.data.filters import FilterConfig
from model_behavior.data_models.votes import TrainingData
from model_behavior.errors import ArtifactError, DataError, ModelBehaviorError, UsageError
from model_behavior.models.behavior import shared_encoding
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.process_group import ProcessGroup
from model_behavior.models.behavior.shared_encoding import EncodingJob, Part
from model_behavior.models.behavior.text.execution import Execution
from model_behavior.models.behavior.text.registry import TextConfig
from model_behavior.models.behavior.text.transformer import ReadingConfig
from model_behavior.pipeline import TrainingConfig, make_encoder, train_encoder
from model_behavior.preprocessing.behavior_embedding_preprocessor import PreprocessingConfig
from model_behavior.preprocessing.cache import ContentCache
from model_behavior.preprocessing.entry_file import read_entry
from tests.models.text.tiny_transformer import write_tiny_bert

_FILTERS = FilterConfig(min_comparisons=1)
_CONFIG = TrainingConfig(encoder=EncoderConfig(preprocessing=PreprocessingConfig(_FILTERS)), epochs=1)


@dataclass
class FakeCluster:
    """Workers in this process, which get their calls as another process would, and in another order.

    Attributes:
        die_after: parts after which they fail; None for never.
        cache: another cache that they see.
    """

    die_after: int | None = None
    cache: Path | None = None
    asked: list[Part] = field(default_factory=list)
    checked: list[Path] = field(default_factory=list)

    def __call__(self, work: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        shared_encoding._open.cache_clear()
        for call in reversed(calls):
            if len(self.asked) == self.die_after:
                raise ModelBehaviorError("the machine has gone")
            job, part = pickle.loads(pickle.dumps(call))
            assert isinstance(job, EncodingJob)
            self.asked.append(part)
            yield work(job if self.cache is None else replace(job, cache=self.cache), part)

    def check_folder(self, folder: Path) -> None:
        self.checked.append(folder)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_behavior.preprocessing.feature_cache._MEAN_CHUNK", 16)


@pytest.fixture(scope="module")
def votes() -> TrainingData:
    return build_arena(seed=3, n_prompts=20).votes


def encode(votes: TrainingData, runtime: Runtime, config: TrainingConfig = _CONFIG) -> None:
    """Encodes the features as `train_encoder` does, without the head."""
    encoder = make_encoder(config, runtime)
    encoder.assist_prepared(encoder.prepare(votes, config.split), config.batch_size)


def features_in(folder: Path) -> dict[str, Path]:
    return {f"{path.parent.parent.name}/{path.name}": path for path in folder.glob("v1/features-*/*/*.safetensors")}


def same_arrays(one: Path, other: Path) -> bool:
    left, right = read_entry(one).arrays, read_entry(other).arrays
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def same_state(one: Artifact, other: Artifact) -> bool:
    left, right = (each.encoder.get_state_dict()["tensors"] for each in (one, other))
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("encoders", [("lexical",), ("style", "semantic")])
def test_workers_encode_all_that_training_reads_and_nothing_else(
    votes: TrainingData, tmp_path: Path, encoders: tuple[str, ...]
) -> None:
    config = replace(_CONFIG, text=TextConfig(encoders))
    if "semantic" in encoders:
        pytest.importorskip("sentence_transformers")
        bert = str(write_tiny_bert(tmp_path / "bert"))
        config = replace(config, text=TextConfig(encoders, ReadingConfig(bert, 4, 10, precision="f32")))
    one = train_encoder(votes, config, Runtime(ContentCache(tmp_path / "one"), backend="torch"))
    workers, left = FakeCluster(), dict[str, Path]()
    cache = ContentCache(tmp_path / "many")

    class Look:
        """Looks into the cache when the workers are done."""

        def __call__(self, work: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
            yield from workers(work, calls)
            left.update(features_in(cache.path))

        def check_folder(self, folder: Path) -> None:
            workers.check_folder(folder)

    many = train_encoder(votes, config, Runtime(cache, backend="torch", workers=Look()))
    assert workers.checked == [cache.path]
    assert len(workers.asked) == len(set(workers.asked)) > 10
    assert left.keys() == features_in(cache.path).keys() == features_in(tmp_path / "one").keys()
    assert all(same_arrays(path, left[name]) for name, path in features_in(tmp_path / "one").items())
    assert same_state(one, many)
    again = FakeCluster()
    encode(votes, Runtime(cache, backend="torch", workers=again), config)
    assert again.asked == [], "a cluster is not asked for what is there"


def test_a_run_that_was_cut_off_goes_on_with_what_is_missing(votes: TrainingData, tmp_path: Path) -> None:
    cache = ContentCache(tmp_path)
    first, second = FakeCluster(die_after=5), FakeCluster()
    with pytest.raises(ModelBehaviorError, match="has gone"):
        encode(votes, Runtime(cache, workers=first))
    finished = {path: path.stat().st_ino for path in features_in(tmp_path).values()}
    assert len(finished) > 5
    encode(votes, Runtime(cache, workers=second))
    assert not set(first.asked) & set(second.asked)
    assert {path: path.stat().st_ino for path in finished} == finished


def test_a_cache_that_is_not_shared_is_said(
    votes: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ContentCache(tmp_path / "here")
    with pytest.raises(UsageError, match=r"does not find the votes in the cache .*there\. Fix: --cache"):
        encode(votes, Runtime(cache, workers=FakeCluster(cache=tmp_path / "there")))

    class Elsewhere(FakeCluster):
        """Workers whose work does not come back."""

        def __call__(self, work: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
            yield from (part for _, part in calls)

    monkeypatch.setattr(shared_encoding, "_PATIENCE", 0.0)
    with pytest.raises(DataError, match="are not in the cache .*here, though workers have encoded them"):
        encode(votes, Runtime(cache, workers=Elsewhere()))
    with pytest.raises(UsageError, match="Fix: --cache"):
        train_encoder("no such file", _CONFIG, Runtime(ContentCache(enabled=False), workers=Elsewhere()))


def test_a_worker_that_cannot_write_ends_the_run(
    votes: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk(FakeCluster):
        """Workers whose disk is full."""

        def __call__(self, work: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
            def write(*_: object, **__: object) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            with monkeypatch.context() as patch:
                patch.setattr("model_behavior.preprocessing.cache.write_entry", write)
                yield from super().__call__(work, calls)

    with pytest.raises(
        ModelBehaviorError, match=r"a worker cannot write to the cache .*No space left on device\. What"
    ):
        encode(votes, Runtime(ContentCache(tmp_path), workers=FullDisk()))


def test_a_worker_that_computes_otherwise_is_refused(
    votes: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sentence_transformers")
    reading = ReadingConfig(str(write_tiny_bert(tmp_path / "bert")), 4, 10, precision="f32")
    config = replace(_CONFIG, text=TextConfig(("style", "semantic"), reading))

    class OtherMachine(FakeCluster):
        """Workers on a machine with another device."""

        def __call__(self, work: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
            with monkeypatch.context() as patch:
                patch.setattr(Execution, "__str__", lambda execution: "torch f32 elsewhere")
                yield from super().__call__(work, calls)

    with pytest.raises(ArtifactError, match=r"'semantic' runs on a worker as .*elsewhere.* --backend torch"):
        runtime = Runtime(ContentCache(tmp_path / "cache"), backend="torch", workers=OtherMachine())
        encode(votes, runtime, config)


def test_the_processes_of_a_group_share_the_parts(
    votes: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by itself, one after the other; `test_process_group.py` has two at once."""
    monkeypatch.setattr(ProcessGroup, "wait_for_all", lambda group: None)
    encode(votes, Runtime(ContentCache(tmp_path / "workers"), workers=FakeCluster()))
    cache, found = ContentCache(tmp_path / "group"), [0]
    for rank in range(3):
        encode(votes, Runtime(cache, group=ProcessGroup(rank, 3)))
        found.append(len(features_in(cache.path)))
    assert features_in(cache.path).keys() == features_in(tmp_path / "workers").keys()
    assert min(np.diff(found)) > 0.2 * found[-1]

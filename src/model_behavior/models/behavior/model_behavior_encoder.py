"""The encoder of stage 1: embeds (prompt, response) pairs, and models by the mean over their pairs."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, final

import numpy as np

from model_behavior.arrays import AnyArray, Float32Array, UInt64Array
from model_behavior.data.byte_streams import replace_surrogates
from model_behavior.data.canonical_text import canonical_prompt, canonical_response
from model_behavior.data.self_naming import mask_self_naming
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.training_log import EpochLog
from model_behavior.data_models.votes import TrainingData, ValidationSplit
from model_behavior.errors import ArtifactError, UsageError, check_version
from model_behavior.models.behavior.behavior_features import BehaviorFeatures, compose
from model_behavior.models.behavior.checkpoint import Checkpoint
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.monitor import Runtime
from model_behavior.models.behavior.projection import ProjectionHead, projection_from_state
from model_behavior.models.behavior.shared_encoding import encode_together
from model_behavior.models.behavior.starting_point import STARTED_RATE, StartingPoint
from model_behavior.models.behavior.text.registry import (
    make_text_encoders,
    text_encoders_from_state,
    text_encoders_to_state,
)
from model_behavior.models.behavior.training import Schedule, Trainer
from model_behavior.models.behavior.training_setup import PairFeatureSource, set_up_training
from model_behavior.models.behavior.validation import EncoderVotes
from model_behavior.preprocessing.behavior_embedding_preprocessor import BehaviorEmbeddingPreprocessor
from model_behavior.preprocessing.entry_file import digest_of, inside

STATE_VERSION = 3  # goes up when the same texts are encoded otherwise


@final
class ModelBehaviorEncoder:
    """A Siamese network over (prompt, response) pairs, trained with triplets from pairwise votes.

    Args:
        text_encoders: text encoders, whose features are used side by side; style and lexical by default. `train`
            replaces those that learn from votes by fitted ones.
        config: settings that decide the result of `train`.
        runtime: cache, monitor and checkpoint, which do not change the result.

    Attributes:
        history: one `EpochLog` per trained epoch.
        data_fingerprint: hash of the training votes and their settings; "" before training.
        start: trained encoder that `train` starts from; None to start afresh.
    """

    def __init__(
        self,
        text_encoders: Sequence[TextEncoderBase] | None = None,
        config: EncoderConfig | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self.text_encoders = tuple(text_encoders) if text_encoders is not None else make_text_encoders()
        if not self.text_encoders:
            raise UsageError("text_encoders is empty: at least one is needed")
        self.config = config if config is not None else EncoderConfig()
        self.runtime = runtime if runtime is not None else Runtime()
        self.history: list[EpochLog] = []
        self.data_fingerprint = ""
        self.start: StartingPoint | None = None
        self._head: ProjectionHead | None = None
        self._features: BehaviorFeatures | None = None
        self._quality: Float32Array | None = None

    @property
    def dim(self) -> int:
        """Size of the embedding."""
        return self.config.projection.dim

    def train(self, data: TrainingData, validation_split: ValidationSplit, epochs: int, batch_size: int) -> None:
        """Trains on votes and keeps the epoch with the best validation triplet accuracy.

        Args:
            data: votes, unfiltered.
            validation_split: divides the votes before triplets are formed.
            epochs: number of passes, at least 1.
            batch_size: triplets per step, at least 1; fewer where there are few votes (`EncoderConfig.for_size`).

        Raises:
            UsageError: an argument is out of range, or the encoder to start from has another configuration.
            DataError: the votes give no triplet on one side of the split.
            CollapseError: the encoder maps every pair to the same point.
        """
        _check_positive(epochs=epochs, batch_size=batch_size)
        self.train_prepared(self.prepare(data, validation_split), epochs, batch_size)

    def prepare(self, data: TrainingData, validation_split: ValidationSplit) -> PreprocessedBehaviorEncoderData:
        """Filters and splits votes by this encoder's configuration; the monitor receives what is left.

        Raises:
            DataError: no votes are left.
        """
        monitor = self.runtime.monitor
        with self.runtime.group.first_alone():
            preprocessor = BehaviorEmbeddingPreprocessor(self.runtime.cache, self.config.preprocessing)
            prepared = preprocessor.preprocess(data, validation_split, partial(monitor.on_progress, "filters"))
            monitor.on_prepared(prepared)
        return prepared

    def train_prepared(self, prepared: PreprocessedBehaviorEncoderData, epochs: int, batch_size: int) -> None:
        """`train` on votes that `prepare` has filtered and split."""
        _check_positive(epochs=epochs, batch_size=batch_size)
        votes, source = self._encode_prepared(prepared, batch_size)
        config, per_step = self.config.for_size(len(prepared.split.train), batch_size)
        optimisation = config.optimisation
        if self.start is not None:
            optimisation = replace(optimisation, learning_rate=STARTED_RATE * optimisation.learning_rate)
        setup = set_up_training(votes, source, config, self.start)
        schedule = Schedule(epochs, per_step, config.seed, optimisation)
        trainer = Trainer(setup.head, setup.objective, setup.examples, schedule)
        self._run(trainer, self._run_key(prepared, source.text_encoders, (epochs, batch_size)))
        self.text_encoders = tuple(source.text_encoders)
        self._head, self._features = setup.head.eval(), setup.transforms
        self.history, self.data_fingerprint = trainer.history, prepared.fingerprint
        self._quality = setup.objective.quality_direction()

    def assist_prepared(self, prepared: PreprocessedBehaviorEncoderData, batch_size: int) -> None:
        """Does this process's share of `train_prepared`, which the first process of the group goes on with alone.

        The share is of fine-tuning and of the features. The head costs the same however many votes there are, and
        to send its gradients would take longer than to train it (decision 0035).
        """
        self._encode_prepared(prepared, batch_size)

    def encode(self, prompts: list[str], responses: list[str], batch_size: int) -> np.ndarray:
        """Embeds pairs, in order.

        Args:
            prompts: prompts, [n_samples].
            responses: responses to them, [n_samples].
            batch_size: pairs encoded at once.

        Returns:
            Unit vectors, float32, [n_samples, embedding_dim].

        Raises:
            UsageError: the lists have different lengths, or the encoder is not trained.
        """
        self._trained()
        _check_positive(batch_size=batch_size)
        if isinstance(prompts, str) or isinstance(responses, str):
            raise UsageError("prompts and responses must be lists of texts, not a single text")
        if len(prompts) != len(responses):
            raise UsageError(f"{len(prompts)} prompts but {len(responses)} responses: one of each per pair is needed")
        return self.encode_clean(*self.clean(prompts, responses), batch_size)

    def clean(self, prompts: list[str], responses: list[str]) -> tuple[list[str], list[str]]:
        """Prepares texts for encoding: makes them canonical, and masks self-naming. [n_samples] each."""
        # JSON may hold lone surrogates, which no tokenizer and no file takes.
        prompts = [canonical_prompt(replace_surrogates(text)) for text in prompts]
        responses = [canonical_response(replace_surrogates(text)) for text in responses]
        if self.config.preprocessing.filters.mask_self_naming:
            responses, _ = mask_self_naming(responses)
        return prompts, responses

    def encode_clean(self, prompts: list[str], responses: list[str], batch_size: int) -> np.ndarray:
        """Embeds texts that `clean` has prepared, for callers that need those texts, too; see `encode`."""
        head, transforms = self._trained()
        if len(prompts) == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        source = self._feature_source(self.text_encoders, batch_size)
        blocks = transforms.transform(*source.of_texts(prompts, responses))
        trained = head.embed(head.prepare(blocks.blocks), batch_size)
        return compose(trained, blocks.identity, self.config.features.identity_weight)

    def compute_model_embedding(self, prompts: list[str], responses: list[str], batch_size: int) -> np.ndarray:
        """The embedding of one model: the mean over its pairs, float32, [embedding_dim].

        Raises:
            UsageError: there are no pairs; or see `encode`.
        """
        if len(responses) == 0:
            raise UsageError("a model's embedding needs at least one (prompt, response) pair, got none")
        mean: Float32Array = self.encode(prompts, responses, batch_size).mean(axis=0)
        return mean

    def rate(self, embeddings: np.ndarray) -> np.ndarray:
        """Rates model embeddings on the Bradley-Terry (log-odds) scale, up to a constant.

        The rating is a linear read-out, learned from the votes by the vote term of the objective.

        Args:
            embeddings: embeddings of models, [n_models, embedding_dim].

        Returns:
            Ratings, [n_models]; higher is better.

        Raises:
            UsageError: the encoder was trained without the vote term.
        """
        self._trained()
        if self._quality is None:
            raise UsageError("this encoder was trained with the vote term off (vote=0), so it cannot rate models")
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dim:
            raise UsageError(f"embeddings of shape {embeddings.shape}: [n_models, {self.dim}] is needed")
        # The read-out was learned on the trained part at length 1, which is shorter inside an embedding.
        length = np.sqrt(1 + self.config.features.identity_weight**2) if self.config.identity_dim else 1.0
        ratings: np.ndarray = length * (self.quality_of(embeddings) @ self._quality)
        return ratings

    def as_start(self, names: Sequence[str], embeddings: np.ndarray, prompts: UInt64Array) -> StartingPoint:
        """What another training takes from this trained encoder.

        Args:
            names: names of models, [n_models].
            embeddings: their mean embeddings by this encoder, [n_models, embedding_dim].
            prompts: keys of the prompts that it was trained on.

        Raises:
            UsageError: the encoder is not trained.
        """
        head, transforms = self._trained()
        places = dict(zip(names, self.quality_of(embeddings).astype(np.float32), strict=True))
        return StartingPoint(
            self.text_encoders, self.config, transforms, head, self._quality, places, prompts, self.fingerprint
        )

    def quality_of(self, embeddings: np.ndarray) -> np.ndarray:
        """The part of embeddings that votes have shaped, [n, embedding_dim] to [n, quality_dim]."""
        return embeddings[:, : self.config.quality_dim]

    def identity_of(self, embeddings: np.ndarray) -> np.ndarray:
        """The part of embeddings that tells models apart, [n, embedding_dim] to [n, identity_dim]."""
        return embeddings[:, self.config.quality_dim :]

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides what the trained encoder makes of a text, hexadecimal."""
        state = self.get_state_dict()
        tensors = state["tensors"]
        settings = json.dumps([state["state_version"], state["config"], state["text_encoders"]], sort_keys=True)
        named: list[str | bytes | AnyArray] = [settings]
        for name in sorted(tensors):
            named += [name, tensors[name]]
        return digest_of(*named)

    def get_state_dict(self) -> dict[str, Any]:
        """Returns the state for `load_state_dict`: JSON values under "config" and NumPy arrays under "tensors"."""
        head, transforms = self._trained()
        tensors = {f"head.{name}": value.numpy().copy() for name, value in head.state_dict().items()}
        tensors |= {f"features.{name}": np.array(value) for name, value in transforms.to_arrays().items()}
        if self._quality is not None:
            tensors["quality"] = self._quality.copy()
        encoders, learned = text_encoders_to_state(self.text_encoders)
        tensors |= {f"text_encoders.{name}": np.array(value) for name, value in learned.items()}
        return {
            "state_version": STATE_VERSION,
            "config": self.config.to_json(),
            "text_encoders": encoders,
            "data_fingerprint": self.data_fingerprint,
            "history": [log.to_json() for log in self.history],
            "tensors": tensors,
        }

    @classmethod
    def load_state_dict(cls, state_dict: dict[str, Any]) -> ModelBehaviorEncoder:
        """The inverse of `get_state_dict`; the loaded encoder is bit-identical.

        Raises:
            ArtifactError: the state is of another version or incomplete, uses a setting that this release no longer
                has, or its text encoder gives other vectors here, such as other weights of the same name.
        """
        check_version("encoder state:", state_dict.get("state_version"), STATE_VERSION)
        try:
            tensors = state_dict["tensors"]
            encoders = text_encoders_from_state(state_dict["text_encoders"], inside(tensors, "text_encoders."))
            encoder = cls(encoders, EncoderConfig.from_json(state_dict["config"]))
            head = inside(tensors, "head.")
            projection = replace(encoder.config.projection, dim=encoder.config.quality_dim)
            encoder._head = projection_from_state(head, projection).eval()
            encoder._features = BehaviorFeatures.from_arrays(copy.deepcopy(inside(tensors, "features.")))
            encoder._quality = np.array(tensors["quality"]) if "quality" in tensors else None
            encoder.history = [EpochLog.from_json(log) for log in state_dict["history"]]
            encoder.data_fingerprint = state_dict["data_fingerprint"]
        except (KeyError, TypeError, RuntimeError, UsageError) as error:
            raise ArtifactError(f"incomplete or unknown encoder state: {error}") from error
        return encoder

    def _encode_prepared(
        self, prepared: PreprocessedBehaviorEncoderData, batch_size: int
    ) -> tuple[EncoderVotes, PairFeatureSource]:
        """Fits text encoders that learn from votes and, where several processes share the work, encodes the pairs."""
        preprocessor = BehaviorEmbeddingPreprocessor(self.runtime.cache, self.config.preprocessing)
        with self.runtime.group.first_alone():
            votes = EncoderVotes(prepared, preprocessor.sampler(prepared), self.config.seed)
        source = self._feature_source(self._text_encoders_for(votes), batch_size)
        encode_together(source, prepared)
        return votes, source

    def _run(self, trainer: Trainer, key: str) -> None:
        path, monitor = self.runtime.checkpoint, self.runtime.monitor
        checkpoint = Checkpoint(path, key, self.runtime.group)
        # If a text encoder was tuned first, training may have been interrupted before the head's first epoch.
        tuned = any(encoder.learns_from_votes for encoder in self.text_encoders)
        if path is not None and self.runtime.resume and (path.exists() or not tuned):
            checkpoint.restore(trainer)
            for log in trainer.history:
                monitor.on_epoch(log)

        def on_epoch(log: EpochLog) -> None:
            checkpoint.save(trainer)
            monitor.on_epoch(log)

        trainer.run(partial(monitor.on_progress, "training"), on_epoch)

    def _run_key(
        self,
        prepared: PreprocessedBehaviorEncoderData,
        encoders: Sequence[TextEncoderBase],
        schedule: tuple[int, int],
    ) -> str:
        fingerprints = [encoder.fingerprint for encoder in encoders]
        if self.start is not None:
            fingerprints.append(f"start {self.start.fingerprint}")
        settings = json.dumps([STATE_VERSION, self.config.to_json(), fingerprints, *schedule], sort_keys=True)
        return digest_of(prepared.fingerprint, settings)

    def _text_encoders_for(self, votes: EncoderVotes) -> tuple[TextEncoderBase, ...]:
        """Those of the start, or this encoder's own, fitted where they learn from votes."""
        if self.start is None:
            return tuple(encoder.fitted_on(votes, self.runtime) for encoder in self.text_encoders)
        self.start.check(self.text_encoders, self.config)
        return tuple(self.start.text_encoders)

    def _feature_source(self, encoders: Sequence[TextEncoderBase], batch_size: int) -> PairFeatureSource:
        return PairFeatureSource(encoders, self.runtime, batch_size, self.config.features.remove_topic)

    def _trained(self) -> tuple[ProjectionHead, BehaviorFeatures]:
        if self._head is None or self._features is None:
            raise UsageError("this encoder is not trained. Fix: call train(), or load_state_dict() of a trained one")
        return self._head, self._features


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise UsageError(f"{name}={value}: at least 1 is needed")

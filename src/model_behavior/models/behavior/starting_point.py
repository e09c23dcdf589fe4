"""A trained encoder as the beginning of another training.

Few votes cannot teach how responses differ, but they can say which differences count here. So transforms, head and
read-out of quality are taken from an encoder that has seen more; the head goes on from there. A model that the first
training knew begins at its mean embedding, a new one at the mean of its training responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import final

import numpy as np
import torch

from model_behavior.arrays import Float32Array, IntArray, UInt64Array
from model_behavior.errors import UsageError
from model_behavior.models.behavior.behavior_features import BehaviorFeatures
from model_behavior.models.behavior.configuration import EncoderConfig
from model_behavior.models.behavior.encoder_base import TextEncoderBase
from model_behavior.models.behavior.metrics import centroids
from model_behavior.models.behavior.objectives import Objective
from model_behavior.models.behavior.projection import Prepared, ProjectionConfig, ProjectionHead, projection_from_state

STARTED_RATE = 0.3  # of the learning rate: few votes would soon undo what the start has learned (decision 0033)
_BATCH = 2048
_SIZES = ("dim", "hidden")  # of the head, which its weights have
_FREE = ("fitted_pairs",)  # of the features: how much they were fitted to does not change what they are


@final
@dataclass(frozen=True, eq=False)
class StartingPoint:
    """What a training takes from a trained encoder.

    Attributes:
        text_encoders: its text encoders, as they were trained.
        config: its settings.
        transforms: its transforms.
        head: its head.
        quality: its read-out of quality, [quality_dim]; None where it was trained without.
        places: mean trained part of the embeddings of the models that it knew, [quality_dim] each, by name.
        prompts: keys of the prompts that it was trained on, uint64.
        fingerprint: its fingerprint.
    """

    text_encoders: Sequence[TextEncoderBase]
    config: EncoderConfig
    transforms: BehaviorFeatures
    head: ProjectionHead
    quality: Float32Array | None
    places: Mapping[str, Float32Array]
    prompts: UInt64Array
    fingerprint: str

    def check(self, text_encoders: Sequence[TextEncoderBase], config: EncoderConfig) -> None:
        """Refuses a training of another configuration.

        Raises:
            UsageError: text encoders, features or sizes of the head differ.
        """
        mine, asked = self._describe(self.text_encoders, self.config), self._describe(text_encoders, config)
        for name, value in mine.items():
            if asked.get(name) != value:
                raise UsageError(
                    f"the training to start from has {name} = {value!r}, this one {asked.get(name)!r}. Both must be "
                    f"equal, since weights are taken over. Fix: set {name} to the former, or train without a start"
                )

    @staticmethod
    def _describe(text_encoders: Sequence[TextEncoderBase], config: EncoderConfig) -> dict[str, object]:
        """What must be equal, by the name that the user can set."""
        projection, features = asdict(config.projection), asdict(config.features)
        described: dict[str, object] = {"text.encoders": [encoder.name for encoder in text_encoders]}
        described |= {f"text.{encoder.name}": dict(encoder.config) for encoder in text_encoders}
        described |= {f"encoder.projection.{name}": projection[name] for name in _SIZES}
        return described | {f"encoder.features.{name}": each for name, each in features.items() if name not in _FREE}

    def copy_head(self, config: ProjectionConfig) -> ProjectionHead:
        """The head with its weights, and with the dropout of another configuration."""
        return projection_from_state({name: value.numpy() for name, value in self.head.state_dict().items()}, config)

    def place(
        self, objective: Objective, models: Sequence[str], responses: tuple[Sequence[Prepared], IntArray]
    ) -> None:
        """Sets the proxies of models, and the read-out, where the first training left them.

        Args:
            objective: objective with fresh weights. A model with neither a place nor a response keeps its proxy.
            models: names of the models, in the order of the proxies.
            responses: training responses, prepared for the head, and the model of each, [n].
        """
        prepared, model = responses
        means = centroids(self.head.embed(prepared, _BATCH), model, len(models))
        for row, name in enumerate(models):
            means[row] = self.places.get(name, means[row])
        found = torch.from_numpy(np.flatnonzero(np.isfinite(means).all(axis=1)))
        with torch.no_grad():
            # The length of a proxy only decides how fast it turns: it stays that of a fresh one.
            unit = torch.nn.functional.normalize(torch.from_numpy(means)[found], dim=1)
            objective.proxies[found] = unit * objective.proxies[found].norm(dim=1, keepdim=True)
            if self.quality is not None:
                scaled = torch.from_numpy(self.quality) / objective.config.proxy_scale
                objective.quality.weight.copy_(scaled.unsqueeze(0))

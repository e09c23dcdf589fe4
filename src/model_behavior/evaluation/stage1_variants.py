"""The ways to train stage 1 that its benchmark compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from model_behavior.models.behavior.behavior_features import FeatureConfig
from model_behavior.models.behavior.objectives import ObjectiveConfig
from model_behavior.models.behavior.registry import DEFAULT_ENCODERS


@dataclass(frozen=True)
class Variant:
    """One way to train: the text encoders, the objectives and the features, the default ones unless said otherwise."""

    encoders: tuple[str, ...] = DEFAULT_ENCODERS
    objectives: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)

    @property
    def needs_transformer(self) -> bool:
        """Whether one of the text encoders is a transformer."""
        return bool({"semantic", "finetuned"} & set(self.encoders))


DEFAULT = "trained, default (style + lexical)"
VARIANTS: Mapping[str, Variant] = {
    DEFAULT: Variant(),
    "trained, style alone": Variant(("style",)),
    "trained, lexical alone": Variant(("lexical",)),
    "trained, semantic alone": Variant(("semantic",)),
    "trained, style + lexical + semantic": Variant((*DEFAULT_ENCODERS, "semantic")),
    "trained, finetuned alone": Variant(("finetuned",)),
    "trained, style + lexical + finetuned": Variant((*DEFAULT_ENCODERS, "finetuned")),
    "default without topic removal": Variant(features=FeatureConfig(remove_topic=False)),
    "default without the identity part": Variant(features=FeatureConfig(identity_weight=0)),
    "default, identity part of weight 1": Variant(features=FeatureConfig(identity_weight=1.0)),
    "default without the proxy term": Variant(objectives=ObjectiveConfig(proxy=0)),
    "default without the vote term": Variant(objectives=ObjectiveConfig(vote=0)),
    "default, triplets alone": Variant(objectives=ObjectiveConfig(proxy=0, vote=0)),
    "default with compactness 0.1": Variant(objectives=ObjectiveConfig(compactness=0.1)),
    "default with KL 0.01": Variant(objectives=ObjectiveConfig(kl=0.01)),
    "default, cosine, margin 0.3": Variant(objectives=ObjectiveConfig(distance="cosine", margin=0.3)),
    "default, semi-hard mining": Variant(objectives=ObjectiveConfig(mining="semi-hard")),
    "default, batch-hard mining": Variant(objectives=ObjectiveConfig(mining="batch-hard")),
    "default with supervised contrastive 0.2": Variant(objectives=ObjectiveConfig(contrastive=0.2)),
    "supervised contrastive 0.2 for the proxies": Variant(objectives=ObjectiveConfig(proxy=0, contrastive=0.2)),
    "default, proxies with ArcFace margin 0.2": Variant(objectives=ObjectiveConfig(proxy_margin=0.2)),
    "default, ties in the vote term": Variant(objectives=ObjectiveConfig(vote_ties=True)),
}

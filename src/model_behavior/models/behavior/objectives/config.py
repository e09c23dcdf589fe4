"""Which terms the loss has, and how strong each is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from model_behavior.errors import UsageError

Distance = Literal["cosine", "euclidean"]
Mining = Literal["none", "semi-hard", "batch-hard"]


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the terms, 0 for off, and their settings.

    Attributes:
        distance: of the triplet term.
        margin: of the triplet term, in units of `distance`.
        triplet: weight of `triplet_margin_loss`.
        proxy: weight of `proxy_softmax_loss`.
        vote: weight of `vote_logistic_loss`.
        compactness: weight of `compactness_loss`.
        kl: weight of `kl_to_standard_normal`.
        proxy_scale: inverse temperature of the proxy softmax, and scale of the vote term's read-out.
        mining: how the triplet term's positives and negatives are chosen anew within the batch, see `mine_triplets`.
        proxy_margin: angle in radians that is added to a pair's own proxy, in [0, pi / 2).
        contrastive: weight of `supervised_contrastive_loss`.
        temperature: of the contrastive term, above 0.
        vote_ties: whether the vote term counts a tie as half a win of each side; it leaves ties out otherwise.
    """

    distance: Distance = "euclidean"
    margin: float = 0.5
    triplet: float = 1.0
    proxy: float = 0.2
    vote: float = 0.1
    compactness: float = 0.0
    kl: float = 0.0
    proxy_scale: float = 16.0
    mining: Mining = "none"
    proxy_margin: float = 0.0
    contrastive: float = 0.0
    temperature: float = 0.1
    vote_ties: bool = False

    def __post_init__(self) -> None:
        self._check_weights()
        if self.distance not in get_args(Distance):
            raise UsageError(f"distance {self.distance!r}: allowed are cosine and euclidean")
        if self.mining not in get_args(Mining):
            raise UsageError(f"mining {self.mining!r}: allowed are none, semi-hard and batch-hard")
        if self.mining != "none" and not self.triplet:
            raise UsageError(
                f"mining {self.mining!r} with triplet=0: what is mined are triplets, and their term is off. "
                'Fix: mining "none", or a triplet weight above 0'
            )
        if not 0 <= self.proxy_margin < math.pi / 2:
            raise UsageError(f"proxy_margin={self.proxy_margin}: an angle in [0, pi / 2) radians is needed")
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"temperature={self.temperature}: a finite number above 0 is needed")

    def _check_weights(self) -> None:
        names = ("triplet", "proxy", "contrastive", "vote", "compactness", "kl")
        weights = {name: float(getattr(self, name)) for name in names}
        if not all(0 <= weight < math.inf for weight in weights.values()) or not any(weights.values()):
            shown = ", ".join(f"{name}={weight:g}" for name, weight in weights.items())
            raise UsageError(f"weights {shown}: none may be negative or infinite, and one must be above 0")

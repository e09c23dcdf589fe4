"""How much responses to one topic say less than as many to different ones.

With an intraclass correlation r between responses of one model to one topic, the mean of k responses varies as that of

    k / (1 + r (m - 1)),   m = sum over topics of (responses to it)^2 / k

independent ones (Kish 1965, Survey Sampling, 5.4 and 11.7). r is estimated from the mean squares between and within
topics, summed over dimensions and models (one-way analysis of variance, Searle, Casella and McCulloch 1992, 3.6).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_behavior.catalog.two_covariance import FloatArray


def intraclass_correlation(
    vectors: npt.NDArray[np.floating], owner: npt.NDArray[np.integer], topic: npt.NDArray[np.integer]
) -> float:
    """Correlation of two responses of one model to one topic, around the model's mean; in [0, 1].

    0 where no topic has two responses of a model, or no model has two topics.

    Args:
        vectors: [n, dim].
        owner: model of each, [n].
        topic: topic, or prompt, of each, [n].
    """
    between = within = pairs = 0.0
    freedom = np.zeros(2)
    for model in np.unique(owner):
        own = vectors[owner == model].astype(np.float64)
        _, group, sizes = np.unique(topic[owner == model], return_inverse=True, return_counts=True)
        means = np.zeros((len(sizes), own.shape[1]))
        np.add.at(means, group, own)
        means /= sizes[:, None]
        within += float(np.square(own - means[group]).sum())
        between += float((sizes[:, None] * np.square(means - own.mean(axis=0))).sum())
        freedom += len(sizes) - 1, len(own) - len(sizes)
        pairs += len(own) - float(np.square(sizes).sum()) / len(own)
    if not freedom.all():
        return 0.0
    noise = within / freedom[1]
    shared = (between / freedom[0] - noise) / (pairs / freedom[0])
    return float(np.clip(shared / max(shared + noise, 1e-30), 0, 1))


def effective_responses(topic: npt.NDArray[np.integer], correlation: float) -> float:
    """How many independent responses these are worth, at most as many as they are.

    Args:
        topic: topic of each response, [k], at least one.
        correlation: of two responses of one model to one topic.
    """
    sizes: FloatArray = np.unique(topic, return_counts=True)[1].astype(np.float64)
    return float(len(topic) / (1 + correlation * (np.square(sizes).sum() / len(topic) - 1)))

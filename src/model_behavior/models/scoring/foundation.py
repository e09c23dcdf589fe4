"""What the dense network begins with: ratings of the voted models, their reading from behaviour, and weights.

The network starts where Bradley-Terry ratings end: untrained, it predicts what they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from model_behavior.data.ratings import RatingTable
from model_behavior.data_models.scoring_types import ModelTable, ScoringVotes
from model_behavior.errors import DataError
from model_behavior.models.scoring.bradley_terry import BradleyTerry
from model_behavior.models.scoring.dense_network import DenseNetwork
from model_behavior.models.scoring.dense_network_config import DenseNetworkConfig
from model_behavior.models.scoring.published_ratings import Published, fit_published
from model_behavior.models.scoring.rating_reader import RatingReader


@dataclass(frozen=True, eq=False)
class Foundation:
    """What the network begins with, fitted to votes.

    Attributes:
        ratings: Bradley-Terry ratings of the voted models.
        reader: reader of ratings from behaviour; None where behaviour is not used.
        network: network on top of both, untrained.
        published: published ratings that are in `ratings`; None without.
    """

    ratings: BradleyTerry
    reader: RatingReader | None
    network: DenseNetwork
    published: Published | None = None


def lay_foundation(
    votes: ScoringVotes,
    voted: ModelTable | None,
    prompt_dim: int,
    config: DenseNetworkConfig,
    given: RatingTable | None = None,
) -> Foundation:
    """Fits ratings and their reading from embeddings, and builds the network that begins there.

    Args:
        votes: votes to fit to.
        voted: embeddings of their models, in their order; None to do without behaviour.
        prompt_dim: size of the prompts' features.
        config: configuration of stage 2.
        given: published ratings of some of the models.
    """
    ratings, published, placed = BradleyTerry(config.offset), None, None
    if given is None:
        ratings.fit(votes)
    else:
        ratings, published, placed = fit_published(votes, given, config.offset)
    reader, behavior = None, np.zeros((len(votes.models), 0), np.float32)
    if voted is not None:
        reader = RatingReader(config.reader)
        reader.fit(voted, ratings.rating, np.diag(ratings.covariance), votes, placed)
        behavior = reader.standardise(voted).astype(np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.schedule.seed)
        network = DenseNetwork(prompt_dim, ratings.rating, behavior, ratings.constants, config.network)
    return Foundation(ratings, reader, network, published)


def rows_of_models(table: ModelTable, names: Sequence[str]) -> ModelTable:
    """The rows of some models, in their order.

    Raises:
        DataError: a model without a row.
    """
    place = {name: index for index, name in enumerate(table.names)}
    missing = [name for name in names if name not in place]
    if missing:
        raise DataError(
            f"no embedding of {missing[0]!r} ({len(missing)} of {len(names)} voted models lack one). "
            "Fix: embed the models that were voted on, or drop their votes"
        )
    return table.select(np.array([place[name] for name in names], dtype=np.int64))

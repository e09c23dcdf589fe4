"""What stage 1 minimises. Every term is a function of embeddings alone, apart from encoding.

The loss of a batch is

    L = w_triplet T + w_proxy P + w_contrastive S + w_vote V + w_compactness C + w_kl K

with unit embeddings z, raw embeddings h (z = h / |h|), and the terms given at each function.
"""

from model_behavior.models.behavior.objectives.batch import TripletBatch
from model_behavior.models.behavior.objectives.config import Distance, Mining, ObjectiveConfig
from model_behavior.models.behavior.objectives.objective import Objective
from model_behavior.models.behavior.objectives.triplet import triplet_margin_loss

__all__ = ["Distance", "Mining", "Objective", "ObjectiveConfig", "TripletBatch", "triplet_margin_loss"]

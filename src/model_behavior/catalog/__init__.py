"""The catalog of models: their embeddings, what is kept of their responses, and what can be asked of both.

embeddings.py       one row per model: mean, count, spread
samples.py          beside it: sampled vectors, style profiles, exemplar responses
exemplars.py        which responses are kept as text, and those of two models to the same prompts
enrolment.py        responses -> both; merge, remove
extension.py        more responses of a model that is there already
revisions.py        what became of each model since the training: numbered changes
neighbours.py       nearest models
style_drivers.py    what sets two models apart, in words
placement.py        where a model lies and how sure that is (fitted in population.py, topics in design_effect.py)
identification.py   which model wrote these, or none of them (evidence.py, trials.py, calibration.py)
drift.py            have the responses under a name changed
"""

from model_behavior.catalog.embeddings import EncodedPart, ModelEmbeddings, merge
from model_behavior.catalog.enrolment import Catalog, enrol, enrol_encoded, extend_catalog, merge_catalogs, remove
from model_behavior.catalog.samples import Exemplar, ModelSamples, SharedPrompt
from model_behavior.names import find_model

__all__ = [
    "Catalog",
    "EncodedPart",
    "Exemplar",
    "ModelEmbeddings",
    "ModelSamples",
    "SharedPrompt",
    "enrol",
    "enrol_encoded",
    "extend_catalog",
    "find_model",
    "merge",
    "merge_catalogs",
    "remove",
]

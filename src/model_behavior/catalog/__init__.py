"""The catalog of models: their embeddings, samples of their responses, and the questions that both answer.

embeddings.py       one row per model: mean, count, spread
samples.py          beside it: sampled vectors, packed words, style profiles, responses kept as text
stored_rows.py      samples in the files of a folder, read model by model when they are needed
enrolment.py        makes both from responses; extends, merges, removes
revisions.py        numbered changes of each model since the training
neighbours.py       nearest models
style_drivers.py    differences in style between two models, in words
two_covariance.py   scatter of responses around their model, and of models around their mean
placement.py        place of a model in the embedding space, with its uncertainty
places.py           place of a model on the two axes of the map, with its uncertainty
identification.py   identifies the model that wrote some responses, or none of them
calibration.py      turns likelihood ratios of identification into probabilities
drift.py            tests for a change of a model's responses, and plans the sample size
relabelling.py      the permutation tests behind it
cut_responses.py    finds responses that a limit on their length has cut
drift_history.py    history of these tests, in a file beside the artifact
asking.py           prompts that tell most about a new model
agreement.py        input of stage 2 about the models: embeddings, and agreement with other models' responses
"""

from model_behavior.catalog.embeddings import EncodedPart, ModelEmbeddings, merge
from model_behavior.catalog.enrolment import (
    Catalog,
    EnrolmentConfig,
    enrol,
    enrol_encoded,
    extend_catalog,
    merge_catalogs,
    remove,
)
from model_behavior.catalog.samples import ModelSamples, SharedPrompt
from model_behavior.catalog.stored_rows import Exemplar
from model_behavior.names import find_model

__all__ = [
    "Catalog",
    "EncodedPart",
    "EnrolmentConfig",
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

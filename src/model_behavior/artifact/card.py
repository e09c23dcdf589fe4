"""The model card of an artifact, its README: what it is, its training, its validation figures, its use.

The lines between the dashes are metadata for the Hugging Face Hub (https://huggingface.co/docs/hub/model-cards). They
name no licence, which the sharer chooses, and no `model-index`: the Hub would show the validation figures, which were
used to choose the epoch, as results.
"""

from __future__ import annotations

import re

from model_behavior.catalog import ModelEmbeddings
from model_behavior.models.behavior.model_behavior_encoder import ModelBehaviorEncoder
from model_behavior.models.scoring.dense_network_model import DenseNetworkModel


def write_card(encoder: ModelBehaviorEncoder, models: ModelEmbeddings, scorer: DenseNetworkModel | None = None) -> str:
    """The card as Markdown."""
    best = max(encoder.history, key=lambda log: log.triplet_accuracy)
    kinds = ", ".join(f"{kind} {value:.3f}" for kind, value in best.accuracy_by_kind.items())
    balanced, identification = (
        "not measured" if figure is None else f"{figure:.3f}"
        for figure in (best.balanced_accuracy, best.identification)
    )
    encoders = ", ".join(f"`{text_encoder.name}`" for text_encoder in encoder.text_encoders)
    rows = "\n".join(
        f"| {_escape(name)} | {count} | {spread:.3f} |"
        for name, count, spread in zip(models.names, models.count, models.spread, strict=True)
    )
    return f"""---
library_name: model-behavior
tags:
- model-behavior
- llm-evaluation
- arena
- embeddings
---

# {len(models)} LLMs by what they answer

Turns (prompt, response) pairs into {encoder.dim} numbers; the mean over a model's pairs is the model's embedding, from
which new models are placed and rated without votes.

| | |
|---|---|
| text encoders | {encoders} |
| embedding | {encoder.dim} dimensions, unit length per pair |
| trained epochs | {len(encoder.history)}, of which epoch {best.epoch} is kept |
| triplet accuracy, validation | {best.triplet_accuracy:.3f} ({kinds}) |
| balanced triplet accuracy, validation (chance 0.5) | {balanced} |
| models recognised from 8 responses, validation | {identification} |
| trained on | {_describe_sources(scorer)} |
| data fingerprint | `{encoder.data_fingerprint}` |
| seed | {encoder.config.seed} |

The validation figures chose the epoch, so they flatter it a little.

## Use

```python
from model_behavior import Artifact

arena = Artifact.load("THIS_FOLDER")  # or hf://owner/name
arena = arena.onboard("responses.jsonl", model="new-model")
arena.rank()
```

```
model-behavior onboard THIS_FOLDER RESPONSES --model NAME
model-behavior rank THIS_FOLDER
model-behavior map THIS_FOLDER --output map.html
```

## Models

`responses` is how many answers are behind an embedding; `spread` their root mean square distance from it (0 to 1).

| model | responses | spread |
|---|---|---|
{rows}
"""


def _describe_sources(scorer: DenseNetworkModel | None) -> str:
    """What people's judgements the artifact rests on."""
    votes = 0 if scorer is None else int(scorer.ratings.votes.sum()) // 2
    if scorer is None or scorer.published is None:
        return f"{votes:,} votes" if votes else "votes"
    drawn = (
        f"published ratings of {len(scorer.published.table.models)} models; votes between their responses were drawn "
        "from these ratings, nobody cast them, and they count nowhere as votes"
    )
    return f"{votes:,} votes, and {drawn}" if votes else drawn


def _escape(name: str) -> str:
    """The name with its Markdown characters escaped."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~])", r"\\\1", " ".join(name.split()))

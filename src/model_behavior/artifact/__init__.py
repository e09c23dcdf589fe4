"""The trained artifact: its methods, its folder format, its model card, upload and download.

artifact.py    `Artifact`, the class with all methods
folder.py      folder format: reading, writing, locking
certainty.py   certainty of embeddings and ratings
card.py        model card, the README of the folder
hub.py         download from and upload to the Hugging Face Hub
"""

from model_behavior.artifact.artifact import Artifact
from model_behavior.artifact.folder import check_output, fingerprint, is_free, locked

__all__ = ["Artifact", "check_output", "fingerprint", "is_free", "locked"]

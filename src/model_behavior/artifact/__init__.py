"""The trained artifact: its methods, its folder format, its model card, upload and download.

artifact.py    `Artifact`, the class with all methods
folder.py      folder format: reading and writing its files
config_file.py format, version and digests of a folder
exchange.py    lock, and the exchange of an old folder for a new one
segments.py    samples of responses in files that stay
certainty.py   certainty of embeddings and ratings
card.py        model card, the README of the folder
hub.py         download from and upload to the Hugging Face Hub
"""

from model_behavior.artifact.artifact import Artifact
from model_behavior.artifact.exchange import fingerprint, locked
from model_behavior.artifact.folder import check_output, is_free

__all__ = ["Artifact", "check_output", "fingerprint", "is_free", "locked"]

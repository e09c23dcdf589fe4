"""The trained artifact: its verbs, the folder that it lives in, its card, its way to the Hub and back.

artifact.py    `Artifact`, with everything that can be asked of it
folder.py      what its folder holds; reading, writing, locking
certainty.py   how sure it is of its models
card.py        the README of the folder
hub.py         download and upload
"""

from model_behavior.artifact.artifact import Artifact
from model_behavior.artifact.folder import check_output, fingerprint, locked

__all__ = ["Artifact", "check_output", "fingerprint", "locked"]

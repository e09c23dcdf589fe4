"""Small tables of token vectors, as Model2Vec writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from model_behavior.arrays import AnyArray

WORDS = ("[UNK]", "a", "cat", "sat", "on", "mats", ".")


def write_static_table(
    folder: Path, arrays: Mapping[str, AnyArray], words: Sequence[str] = WORDS, normalise: bool = False
) -> Path:
    """A folder with these arrays, and a tokenizer that knows these words."""
    tokenizers = pytest.importorskip("tokenizers")
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    vocabulary = {word: place for place, word in enumerate(words)}
    model = tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=10_000)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"normalize": normalise}))
    return folder

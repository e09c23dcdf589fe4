"""The Llama network and tokenizer of a GGUF file, read once.

The loader of transformers parses the vocabulary of such a file three times and takes four times as long for the same
numbers. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_behavior.arrays import AnyArray, Float32Array
from model_behavior.preprocessing.entry_file import CacheEntry

_MODULES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_norm": "post_attention_layernorm",
}
"""Names of modules in the file, without `blk.N.`, and in transformers, without `model.layers.N.`."""


def unpack_gguf(path: Path) -> CacheEntry:
    """Reads a file of the architecture "llama" with a tokenizer.

    Returns:
        The weights by their names in transformers, `weights.NAME`, rounded to bfloat16 and held as 16-bit integers; the
        tokenizer as JSON in bytes; the configuration and the chat template as metadata.

    Raises:
        ImportError: gguf or transformers is not installed.
    """
    import gguf
    from transformers import PreTrainedTokenizerFast

    reader = gguf.GGUFReader(path)
    values = {name: field.contents() for name, field in reader.fields.items() if len(field.data) == 1}
    config = _config(values, tied=all(tensor.name != "output.weight" for tensor in reader.tensors))
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    arrays: dict[str, AnyArray] = {}
    for tensor in reader.tensors:
        place, _, suffix = tensor.name.rpartition(".")
        module = place.rpartition(".")[2]
        weights = gguf.dequantize(tensor.data, tensor.tensor_type)
        if module in heads:
            weights = _in_halves(weights, heads[module])
        rounded = torch.from_numpy(np.array(weights)).to(torch.bfloat16).view(torch.int16)
        arrays[f"weights.{_name(place)}.{suffix}"] = rounded.numpy()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name)
    arrays["tokenizer"] = np.frombuffer(tokenizer.backend_tokenizer.to_str().encode(), dtype=np.uint8)
    return CacheEntry(arrays, {"config": config, "chat_template": tokenizer.chat_template})


def _config(values: dict[str, Any], tied: bool) -> dict[str, Any]:
    """The configuration as transformers names it, from the file's metadata."""
    from transformers import LlamaConfig

    def of_network(name: str) -> Any:
        return values[f"llama.{name}"]

    n_heads = of_network("attention.head_count")
    config = LlamaConfig(
        vocab_size=of_network("vocab_size"),
        hidden_size=of_network("embedding_length"),
        intermediate_size=of_network("feed_forward_length"),
        num_hidden_layers=of_network("block_count"),
        num_attention_heads=n_heads,
        num_key_value_heads=values.get("llama.attention.head_count_kv", n_heads),
        max_position_embeddings=of_network("context_length"),
        rms_norm_eps=of_network("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": of_network("rope.freq_base")},
        bos_token_id=values.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=values.get("tokenizer.ggml.eos_token_id"),
        pad_token_id=values.get("tokenizer.ggml.padding_token_id"),
        tie_word_embeddings=tied,
    )
    named: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return named


def _name(place: str) -> str:
    """The module's name in transformers: `blk.3.attn_q` is `model.layers.3.self_attn.q_proj`."""
    if place.startswith("blk."):
        _, layer, module = place.split(".")
        return f"model.layers.{layer}.{_MODULES[module]}"
    return _MODULES[place]


def _in_halves(weights: Float32Array, n_heads: int) -> Float32Array:
    """Rows of each head in the order of transformers, which turns the first half with the second, [n_rows, dim].

    The file has the two rows of each rotation side by side.
    """
    pairs = weights.reshape(n_heads, -1, 2, weights.shape[1])
    return pairs.swapaxes(1, 2).reshape(weights.shape)

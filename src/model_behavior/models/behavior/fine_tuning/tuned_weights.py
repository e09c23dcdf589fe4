"""Which weights of a transformer are tuned, and their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils import parametrize

from model_behavior.errors import UsageError
from model_behavior.models.behavior.fine_tuning.config import FineTuningConfig
from model_behavior.preprocessing.entry_file import Arrays


@final
class LowRankDifference(nn.Module):
    """W' = W + (alpha / rank) B A, with W frozen (Hu et al. 2022, LoRA).

    A is drawn from N(0, 1 / n_in), B is 0, so that W' is W before the first step.

    Args:
        weight: W, [n_out, n_in].
        rank: rows of A, columns of B.
        alpha: see above.
    """

    def __init__(self, weight: torch.Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        self.a = nn.Parameter(torch.randn(rank, n_in).to(weight.device) / n_in**0.5)
        self.b = nn.Parameter(torch.zeros(n_out, rank, device=weight.device))
        self._scale = alpha / rank

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """[n_out, n_in] to [n_out, n_in]."""
        return weight + self._scale * (self.b @ self.a)


def choose_tuned_weights(network: nn.Module, config: FineTuningConfig) -> None:
    """Freezes all weights but those that are tuned; in mode "lora", adds the differences first.

    Raises:
        UsageError: a transformer without a stack of layers, or with fewer than are to be tuned.
    """
    network.requires_grad_(config.mode == "full")
    if config.mode == "full":
        return
    layers = _layers_of(network)
    if config.mode == "last-layers":
        if config.last_layers > len(layers):
            raise UsageError(
                f"fine-tuning: last_layers={config.last_layers}, but the transformer has {len(layers)}. "
                "Fix: fewer, or mode 'full'"
            )
        for layer in layers[-config.last_layers :]:
            layer.requires_grad_(True)
        return
    for module in [module for module in layers.modules() if isinstance(module, nn.Linear)]:
        difference = LowRankDifference(module.weight, config.lora_rank, config.lora_alpha)
        parametrize.register_parametrization(module, "weight", difference)


def tuned_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """Those that are not frozen, by name."""
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


def weights_to_arrays(weights: Mapping[str, torch.Tensor]) -> Arrays:
    """A copy of the values."""
    return {name: weight.detach().cpu().numpy().copy() for name, weight in weights.items()}


def set_tuned_weights(network: nn.Module, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """The inverse of `weights_to_arrays`, in place.

    Raises:
        UsageError: they are not those of this network.
    """
    weights = tuned_weights(network)
    expected = {name: tuple(weight.shape) for name, weight in weights.items()}
    found = {name: array.shape for name, array in arrays.items()}
    if expected != found:
        odd = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        raise UsageError(f"{len(odd)} of the tuned weights do not fit the transformer, {odd[0]} first")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(torch.from_numpy(np.array(arrays[name])))


def _layers_of(network: nn.Module) -> nn.ModuleList:
    stacks = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    if not stacks:
        raise UsageError("fine-tuning: the transformer has no stack of layers. Fix: mode 'full'")
    return max(stacks, key=len)

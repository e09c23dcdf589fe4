"""The terms of the loss once more, in plain loops over lists, as what the tests compare with."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from model_behavior.models.behavior.objectives import Distance, TripletBatch

Vector = list[float]


def random_rows(n: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def unit_rows(n: int, dim: int, seed: int) -> torch.Tensor:
    return functional.normalize(random_rows(n, dim, seed), dim=1)


def dot(left: Vector, right: Vector) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def normalised(vector: Vector) -> Vector:
    return [value / math.sqrt(dot(vector, vector)) for value in vector]


def distance_by_loops(left: Vector, right: Vector, distance: Distance) -> float:
    if distance == "cosine":
        return 1 - dot(left, right)
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(left, right, strict=True)))


def proxy_by_loops(unit: list[Vector], proxies: list[Vector], model: list[int], scale: float) -> float:
    total = 0.0
    for vector, own in zip(unit, model, strict=True):
        logits = [scale * dot(vector, normalised(proxy)) for proxy in proxies]
        total -= logits[own] - math.log(sum(math.exp(logit) for logit in logits))
    return total / len(unit)


def contrast_by_loops(unit: list[Vector], of: TripletBatch, temperature: float) -> float:
    model, prompt, text = of.model.tolist(), of.prompt.tolist(), of.text.tolist()
    losses = []
    for i, vector in enumerate(unit):
        alike = [j for j in range(len(unit)) if model[j] == model[i] and prompt[j] != prompt[i] and text[j] != text[i]]
        others = [j for j in range(len(unit)) if model[j] != model[i] and text[j] != text[i]]
        if alike:
            against = sum(math.exp(dot(vector, unit[j]) / temperature) for j in alike + others)
            shares = [math.exp(dot(vector, unit[j]) / temperature) / against for j in alike]
            losses.append(-sum(math.log(share) for share in shares) / len(alike))
    return sum(losses) / len(losses) if losses else 0.0


def compactness_by_loops(unit: list[Vector], model: list[int]) -> float:
    total = 0.0
    for vector, own in zip(unit, model, strict=True):
        members = [other for other, name in zip(unit, model, strict=True) if name == own]
        centre = [sum(column) / len(members) for column in zip(*members, strict=True)]
        total += sum((value - mean) ** 2 for value, mean in zip(vector, centre, strict=True))
    return total / len(unit)


def kl_by_loops(raw: list[Vector]) -> float:
    terms: list[float] = []
    for column in zip(*raw, strict=True):
        mean: float = sum(column) / len(column)
        variance: float = sum((value - mean) ** 2 for value in column) / len(column)
        terms.append((variance + mean**2 - 1 - math.log(variance)) / 2)
    return sum(terms) / len(terms)

"""Memory that a run may take: what the machine has to spare, or what the user allows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from model_behavior.errors import UsageError

_PROC = Path("/proc/meminfo")
_CGROUPS = (  # limit and use of the group of processes, version 2 and version 1
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_UNKNOWN = 8 << 30  # where the system does not say
_LARGEST_SHARE = 16  # of the memory, so that a dozen matrices fit beside each other

_BASE = 600 << 20  # libraries and weights
_FITTED = 20 << 10  # bytes a pair that transforms are fitted on, and again a prompt of these (decision 0013)
_PER_PAIR, _PER_VOTE = 1600, 500  # bytes beside texts and mapped files; measured by `benchmark scale --train`


@dataclass(frozen=True)
class Memory:
    """A limit on the memory of a run. The result does not depend on it.

    Attributes:
        limit: bytes.
        given: the user has set the limit, so that a run that would exceed it is refused.
    """

    limit: int
    given: bool = False

    @property
    def largest_matrix(self) -> int:
        """Bytes from which on a matrix lies in a mapped file."""
        return self.limit // _LARGEST_SHARE


def spare_memory() -> Memory:
    """What the machine has to spare, or what is left of the limit on this group of processes, if that is less."""
    found = [_UNKNOWN]
    if _PROC.exists():
        fields = dict(line.split(":", 1) for line in _PROC.read_text("utf-8").splitlines() if ":" in line)
        found = [int(fields["MemAvailable"].split()[0]) * 1024] if "MemAvailable" in fields else found
    for limit, use in _CGROUPS:
        if limit.exists() and use.exists() and (text := limit.read_text("utf-8").strip()).isdigit():
            found.append(int(text) - int(use.read_text("utf-8")))
    return Memory(max(min(found), 0))


def parse_memory(text: str) -> Memory:
    """A limit as the user writes it: a number, and K, M, G or T for powers of 1,024.

    Raises:
        UsageError: another form, or 0.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    limit = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if not limit:
        raise UsageError(f"memory {text!r}: a number with K, M, G or T is needed, such as 6G")
    return Memory(limit, given=True)


@dataclass(frozen=True)
class TrainingSize:
    """What the memory of a training grows with.

    Attributes:
        votes: number of votes.
        pairs: number of distinct responses to prompts.
        prompts: number of distinct prompts.
        text_bytes: bytes of prompts and responses.
    """

    votes: int
    pairs: int
    prompts: int
    text_bytes: int


def estimate_training(size: TrainingSize, fitted_pairs: int) -> int:
    """Memory that a training may take, in bytes; pages of mapped files, which the system takes back, excluded.

    Args:
        size: size of the votes before they are filtered.
        fitted_pairs: largest number of pairs that transforms are fitted on.
    """
    fitted = min(size.pairs, fitted_pairs)
    asked = size.prompts * fitted // max(size.pairs, 1)
    return _BASE + size.text_bytes + (fitted + asked) * _FITTED + size.pairs * _PER_PAIR + size.votes * _PER_VOTE


def check_training(memory: Memory, size: TrainingSize, fitted_pairs: int) -> None:
    """Refuses a training that may exceed the limit that the user has set; see `estimate_training`.

    Raises:
        UsageError: with the estimate.
    """
    needed = estimate_training(size, fitted_pairs)
    gib = 1 << 30
    if memory.given and needed > memory.limit:
        raise UsageError(
            f"training on {size.votes:,} votes with {size.pairs:,} responses may take {needed / gib:.1f} GiB, "
            f"and the limit is {memory.limit / gib:.1f} GiB. Fix: --memory {-(-needed // gib)}G, or fewer votes"
        )

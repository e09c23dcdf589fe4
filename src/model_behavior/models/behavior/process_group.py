"""Data-parallel training in the processes that `torchrun` starts, with the result of one process.

Every process draws the same batches, since all randomness comes from the seed, but embeds only its own share of a
batch's pairs. The embeddings are gathered, and each process computes the loss of the whole batch from them: proxies,
mining and contrast within the batch see what they would see in one process. The gradient of the own rows flows back
into the network, and the sum over processes is the gradient of the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, final

import torch
from torch import distributed, nn

_LONGEST_WAIT = timedelta(days=7)  # for the first process, which encodes all texts alone


@final
@dataclass(frozen=True)
class ProcessGroup:
    """The processes of one training; one alone by default.

    Attributes:
        rank: number of this process.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def own(self, n_rows: int) -> slice:
        """The rows of a batch that are this process's."""
        return self._share(self.rank, n_rows)

    def gather_rows(self, own: torch.Tensor, n_rows: int) -> torch.Tensor:
        """The rows of all processes, [n_rows, dim], from those of this one; the gradient flows to these.

        Right where every process goes on to compute the same loss from the rows, as they all do here.
        """
        if self.size == 1:
            return own
        rows: torch.Tensor = _GatherRows.apply(own, self, n_rows)  # type: ignore[no-untyped-call]
        return rows

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Makes the gradients of what embeds the own rows those of the whole batch, the same in every process."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Makes the gradients of what every process has computed from all rows equal to the last bit."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad /= self.size

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process goes through the block before the others do, which find its results in the cache."""
        if self.size > 1 and not self.is_first:
            distributed.barrier()
        yield
        if self.size > 1 and self.is_first:
            distributed.barrier()

    def _share(self, rank: int, n_rows: int) -> slice:
        return slice(n_rows * rank // self.size, n_rows * (rank + 1) // self.size)

    def _collect(self, own: torch.Tensor, n_rows: int) -> torch.Tensor:
        # Shares differ by a row at most, but all that is sent must be of one size.
        padded = own.new_zeros(-(-n_rows // self.size), *own.shape[1:])
        padded[: len(own)] = own
        received = [torch.empty_like(padded) for _ in range(self.size)]
        distributed.all_gather(received, padded)
        shares = (self._share(rank, n_rows) for rank in range(self.size))
        return torch.cat([part[: share.stop - share.start] for part, share in zip(received, shares, strict=True)])


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: torch.Tensor, group: ProcessGroup, n_rows: int) -> torch.Tensor:
        ctx.own = group.own(n_rows)
        return group._collect(own, n_rows)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0][ctx.own], None, None


@contextmanager
def open_process_group() -> Iterator[ProcessGroup]:
    """The processes that `torchrun` has started this one with; one alone where it was not started so."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ProcessGroup()
        return
    distributed.init_process_group("gloo", timeout=_LONGEST_WAIT)
    try:
        yield ProcessGroup(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()

"""The processes that `torchrun` starts: they share fine-tuning and encoding, with the result of one process.

Every process draws the same batches, since all randomness comes from the seed, but embeds only its own share of a
batch's pairs. The embeddings are gathered, and each process computes the loss of the whole batch from them: proxies and
contrast within the batch see what they would see in one process. The gradient of the own rows flows back into the
transformer, and the sum over processes is the gradient of the whole batch. `shared_encoding` divides the encoding. The
head is small: a process that trains it does so on whole batches, and the first one is enough (decision 0035).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, final

import torch
from torch import distributed, nn

_LONGEST_WAIT = timedelta(days=7)  # for what the first process does alone, and for the slowest share


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

    def shares(self, n_rows: int) -> list[slice]:
        """The rows of a batch that are each process's, in order."""
        return [slice(n_rows * rank // self.size, n_rows * (rank + 1) // self.size) for rank in range(self.size)]

    def own(self, n_rows: int) -> slice:
        """The rows of a batch that are this process's."""
        return self.shares(n_rows)[self.rank]

    def gather_rows(self, own: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """The rows of the first process, of the second and so on, [n_rows, dim]; the gradient flows to the own ones.

        The gradient is correct only if every process computes the same loss from the rows.

        Args:
            own: rows of this process, [n_own, dim].
            lengths: number of rows of each process, [size].
        """
        if self.size == 1:
            return own
        rows: torch.Tensor = _GatherRows.apply(own, self.rank, lengths)  # type: ignore[no-untyped-call]
        return rows

    def gather_shares(self, own: torch.Tensor, n_rows: int) -> torch.Tensor:
        """`gather_rows` where every process has its share of `n_rows`: these rows in order, [n_rows, dim]."""
        return self.gather_rows(own, [share.stop - share.start for share in self.shares(n_rows)])

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Makes the gradients of what embeds the own rows those of the whole batch, the same in every process.

        Weights without a gradient in any process stay without one, and the optimiser skips them.
        """
        if self.size == 1:
            return
        weights = list(parameters)
        used = torch.tensor([weight.grad is not None for weight in weights], dtype=torch.int32)
        distributed.all_reduce(used, distributed.ReduceOp.MAX)
        for weight, is_used in zip(weights, used.tolist(), strict=True):
            if is_used:
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                distributed.all_reduce(weight.grad)

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Makes the gradients of what every process has computed from all rows equal to the last bit."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad /= self.size

    def all_agree(self, answer: bool) -> bool:
        """Tells if the answer of every process is yes."""
        if self.size == 1:
            return answer
        answers = torch.tensor(int(answer))
        distributed.all_reduce(answers, distributed.ReduceOp.MIN)
        return bool(answers)

    def wait_for_all(self) -> None:
        """Waits until every process is here."""
        if self.size > 1:
            distributed.barrier()

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Runs the block in the first process before the others, which then find its results in the cache."""
        if not self.is_first:
            self.wait_for_all()
        yield
        if self.is_first:
            self.wait_for_all()


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: torch.Tensor, rank: int, lengths: Sequence[int]) -> torch.Tensor:
        before = sum(lengths[:rank])
        ctx.own = slice(before, before + lengths[rank])
        # All that is sent must be of one size.
        padded = own.new_zeros(max(lengths), *own.shape[1:])
        padded[: len(own)] = own
        received = [torch.empty_like(padded) for _ in lengths]
        distributed.all_gather(received, padded)
        return torch.cat([part[:length] for part, length in zip(received, lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0][ctx.own], None, None


@contextmanager
def open_process_group() -> Iterator[ProcessGroup]:
    """Joins the processes that `torchrun` has started; without `torchrun` the group is this process alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ProcessGroup()
        return
    distributed.init_process_group("gloo", timeout=_LONGEST_WAIT)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    try:
        yield ProcessGroup(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()

"""The processes that compute one training together, each with a share of the rows of every batch."""

import contextlib
import datetime
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

# The exit status of a process that has lost another one.
LOST = 75
# Validation, by the first process alone, may take long; a process that has died is noticed by other means.
TIMEOUT = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """How many processes train together, and which of them this one is.

    Every process calls the methods that exchange something in the same order. One whose partner has gone ends at once:
    it can neither finish the step nor keep a state that is whole.
    """

    number: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Return whether this is the process that validates, writes and reports."""
        return self.number == 0

    def rows(self, total: int) -> slice:
        """Return the rows of this process among `total`; shares differ by at most one row and may be empty."""
        return slice(total * self.number // self.count, total * (self.number + 1) // self.count)

    def shares(self, total: int) -> list[slice]:
        """Return the rows of each process among `total`."""
        return [Processes(number, self.count).rows(total) for number in range(self.count)]

    def own(self, rows: Tensor) -> Tensor:
        """Return this process's share of rows (total, …); one process alone gets the same tensor, and so its graph."""
        return rows if self.count == 1 else rows[self.rows(len(rows))]

    def padded(self, own: Tensor, total: int) -> Tensor:
        """Return this process's share of `total` rows, with zeros below it where another share has one row more."""
        largest = -(-total // self.count)
        return torch.cat([own, own.new_zeros(largest - len(own), *own.shape[1:])]) if len(own) < largest else own

    def gathered(self, own: Tensor, total: int) -> Tensor:
        """Return the rows (total, …) of all processes, in their order, from this one's share of them.

        A gradient through it is that of the sum of the processes' losses.
        """
        return own if self.count == 1 else _Gathered.apply(own, self, total)

    def passed_on(self, *tensors: Tensor) -> list[Tensor]:
        """Send tensors to the next process in the ring, and return those of the process before, of the same shapes."""
        if self.count == 1:
            return list(tensors)
        received = [torch.empty_like(tensor) for tensor in tensors]
        after, before = (self.number + 1) % self.count, (self.number - 1) % self.count
        exchanges = [distributed.P2POp(distributed.isend, tensor, after) for tensor in tensors]
        exchanges += [distributed.P2POp(distributed.irecv, tensor, before) for tensor in received]
        with _ended_with_the_others():
            for exchange in distributed.batch_isend_irecv(exchanges):
                exchange.wait()
        return received

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the processes, which are bit for bit the same in all of them."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _ended_with_the_others():
            distributed.all_reduce(flat)
        sums = flat.split([tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(total.view_as(tensor))

    def sum_with_gradient(self, own: Tensor) -> Tensor:
        """Return the sum over the processes of a tensor in a graph."""
        return _Sum.apply(own, self)

    def from_first(self, compute: Callable[[], Any]) -> Any:
        """Return what `compute` returns in the first process, the only one that calls it."""
        if self.count == 1:
            return compute()
        holder = [compute() if self.first else None]
        with _ended_with_the_others():
            distributed.broadcast_object_list(holder, src=0, device=torch.device("cpu"))
        return holder[0]


ALONE = Processes()


@contextlib.contextmanager
def connected(number: int, count: int) -> Iterator[Processes]:
    """Connect this process with the others during a block; MASTER_ADDR and MASTER_PORT say where they meet."""
    # Plain values travel by gloo, tensors by what their device has.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, rank=number, world_size=count, timeout=TIMEOUT)
    yield Processes(number, count)
    # After an error the others may no longer answer.
    distributed.destroy_process_group()


class _Gathered(torch.autograd.Function):
    """The rows of all processes; the gradient by a row is the sum of the gradients that the processes have for it."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, processes: Processes, total: int) -> Tensor:
        """Return the rows (total, …) of all processes."""
        ctx.processes = processes
        padded = processes.padded(own, total).contiguous()
        received = [torch.empty_like(padded) for _ in range(processes.count)]
        with _ended_with_the_others():
            distributed.all_gather(received, padded)
        shares = processes.shares(total)
        return torch.cat([rows[: share.stop - share.start] for rows, share in zip(received, shares, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient by this process's rows."""
        total = upstream.clone()
        ctx.processes.add_up([total])
        return ctx.processes.own(total), None, None


class _Sum(torch.autograd.Function):
    """The sum over the processes; its gradient is that of the sum of their losses."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, processes: Processes) -> Tensor:
        """Return the sum of a tensor (…) over the processes."""
        ctx.processes = processes
        total = own.clone()
        processes.add_up([total])
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        """Return the gradient by this process's tensor."""
        total = upstream.clone()
        ctx.processes.add_up([total])
        return total, None


@contextlib.contextmanager
def _ended_with_the_others() -> Iterator[None]:
    """End this process, without a word, when another one has gone; what ended that one is the news."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, distributed.DistError) or "gloo/transport" in str(error)):
            raise
        # Not an exception: on its way a signal could make a checkpoint of the unfinished step.
        sys.stderr.flush()
        os._exit(LOST)

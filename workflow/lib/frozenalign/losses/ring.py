"""A sum over all pairs of a batch for which the texts go round the ring of processes, one share at a time."""

from collections.abc import Callable

from torch import Tensor

from frozenalign.system.processes import Processes


def sum_round_the_ring(
    compute: Callable[..., tuple[Tensor, ...]], processes: Processes, total: int, x: Tensor, y: Tensor, *learned: Tensor
) -> tuple[Tensor, ...]:
    """Return this process's part of a sum over pairs, and gradients by x, y and the learned values.

    Each process keeps its x (b, D) and meets the y of one other process at a time. The gradient by y goes with y and
    comes home as that of all parts; the others are those of this part. Zhai et al. 2023, Sigmoid Loss for Language
    Image Pre-Training, section 3.2.

    compute: gets which columns of the batch it is for, x, their y and the learned values, and returns their sum and its
    gradients. total: B, the rows of the batch.
    """
    shares = processes.shares(total)
    value, by_x, by_y, *by_learned = compute(shares[processes.number], x, y, *learned)
    y, by_y = processes.padded(y, total), processes.padded(by_y, total)
    for turn in range(1, processes.count):
        y, by_y = processes.passed_on(y, by_y)
        columns = shares[processes.number - turn]
        met = slice(columns.stop - columns.start)
        sums = [value, by_x, by_y[met], *by_learned]
        for one, more in zip(sums, compute(columns, x, y[met], *learned), strict=True):
            one += more
    (by_y,) = processes.passed_on(by_y)
    return value, by_x, by_y[: len(x)], *by_learned

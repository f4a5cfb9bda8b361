"""Bit-identical rows, which must have bit-identical projections: they tie, and no rounding may break the tie.

A matrix product may round a row differently at another place in the batch.
"""

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.row_checks import row_digests
from frozenalign.data.rows import Rows

COLUMNS_COMPARED = 8
WORDS = {2: torch.int16, 4: torch.int32}


def row_keys(rows: Tensor) -> np.ndarray:
    """Return a number for each row (n, D), (n,), from a few of its columns: equal rows have equal ones."""
    columns = torch.linspace(0, rows.shape[1] - 1, min(rows.shape[1], COLUMNS_COMPARED)).long()
    words = rows[:, columns].view(WORDS[rows.element_size()]).long()
    factors = torch.randint(2**62, (len(columns),), generator=torch.Generator().manual_seed(0))
    return (words * factors).sum(1).numpy()


def make_equal_rows_alike(mapped: Tensor, file: Rows, rows: np.ndarray, keys: np.ndarray) -> None:
    """Give each of the ascending rows (n,) of a file what the first bit-identical one has in `mapped` (n, …).

    keys: (n,) what `row_keys` returns. Only rows with the key of another are read again.
    """
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    doubtful = np.flatnonzero(sizes[group] > 1)
    if not len(doubtful):
        return
    digests = row_digests(batch for _, batch in file.batches(rows[doubtful]))
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    where, source = (torch.from_numpy(index).to(mapped.device) for index in (doubtful, doubtful[first[inverse]]))
    mapped[where] = mapped[source]

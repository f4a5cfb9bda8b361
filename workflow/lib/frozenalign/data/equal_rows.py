"""Which rows are bit-identical: only rows that agree in a few columns are compared as a whole."""

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


def first_equal(file: Rows, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return where among the ascending rows (n,) of a file the first bit-identical one of each stands, (n,).

    keys: (n,) what `row_keys` returns. Only rows with the key of another are read again.
    """
    first = np.arange(len(rows))
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    doubtful = np.flatnonzero(sizes[group] > 1)
    if len(doubtful):
        digests = row_digests(batch for _, batch in file.batches(rows[doubtful]))
        _, one, inverse = np.unique(digests, return_index=True, return_inverse=True)
        first[doubtful] = doubtful[one[inverse]]
    return first

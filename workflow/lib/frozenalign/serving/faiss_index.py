"""An index of faiss over the rows of a gallery, as autofaiss builds one: it proposes what is then scored exactly."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenalign.system.errors import UserError, one_line
from frozenalign.system.files import file_size
from frozenalign.system.optional_libraries import imported

INSTALL = "pip install -r envs/requirements-search.txt"
# Several rows may show one image, and hubs among the first may be lowered.
PROPOSED, AT_LEAST = 20, 200


@dataclass(frozen=True)
class FaissIndex:
    """An opened index of the stored rows of a kind. candidate: (M,) which candidate each row is."""

    index: Any
    candidate: np.ndarray

    @classmethod
    def open(cls, path: Path, candidate: np.ndarray, width: int) -> "FaissIndex":
        """Read an index of rows of `width` numbers, as many as `candidate` (M,) has."""
        faiss = imported("faiss", INSTALL)
        file_size(path, "give the file of an index that faiss has written")
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise UserError(f"{path} is no index of faiss ({one_line(str(error))}): build it again") from error
        if (index.ntotal, index.d) != (len(candidate), width):
            raise UserError(
                f"{path} is an index of {index.ntotal} rows of {index.d} numbers, but the gallery has {len(candidate)} "
                f"of {width} there: build it from these rows"
            )
        return cls(index, candidate)

    def proposed(self, query: Tensor, count: int) -> Tensor:
        """Return candidates, (k,), among which the index finds the `count` nearest of a unit vector (D,)."""
        wanted = min(max(PROPOSED * count, AT_LEAST), len(self.candidate))
        _, rows = self.index.search(query[None].cpu().numpy().astype(np.float32), wanted)
        # Where an index finds fewer, it fills up with -1.
        return torch.from_numpy(np.unique(self.candidate[rows[0][rows[0] >= 0]]))

"""How often each candidate is among the nearest of the queries, from a full sort: the reference of faster ways."""

import numpy as np
import torch
from torch import Tensor


def occurrences(queries: Tensor, gallery: Tensor, k: int = 10) -> np.ndarray:
    """Return how often each gallery row (M, D) is among the best k of the queries (N, D), (M,)."""
    best = (queries @ gallery.T).argsort(dim=1, descending=True)[:, :k]
    return torch.bincount(best.flatten(), minlength=len(gallery)).numpy()

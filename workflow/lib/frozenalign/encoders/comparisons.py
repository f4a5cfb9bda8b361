"""How far rows of the same items are apart."""

from torch import Tensor
from torch.nn.functional import cosine_similarity


def farthest(rows: Tensor, others: Tensor) -> float:
    """Return the largest 1 - cosine between row i of both (n, D), computed in float64; NaN if a row is not finite."""
    return (1 - cosine_similarity(rows.double(), others.double(), dim=1)).max().clamp(min=0).item()

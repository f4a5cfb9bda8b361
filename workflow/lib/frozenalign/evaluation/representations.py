"""How alike two representations of the same items are before anything is trained: debiased CKA, mutual neighbours.

Both are computed from a sample of pairs, one row of either kind for each image, in the memory of its square.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from frozenalign.data.pairs import PairFiles
from frozenalign.system.errors import UserError
from frozenalign.system.products import blocks

SAMPLED_IMAGES = 2048
NEIGHBOURS = 10
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class RepresentationSimilarity:
    """How alike images and texts lie in their encoders' spaces.

    images: number of the sampled images. neighbours: how many of each are compared. cka: about 0 for unrelated
    encoders, 1 for equal ones; None if an encoder does not vary. mutual_neighbours: the mean share of neighbours that
    both spaces have in common, 0 to 1. chance: that of unrelated spaces.
    """

    images: int
    neighbours: int
    cka: float | None
    mutual_neighbours: float
    chance: float


def representation_similarity(
    files: PairFiles, images: int = SAMPLED_IMAGES, k: int = NEIGHBOURS
) -> RepresentationSimilarity:
    """Compare the two encoders on equally spaced images of a split, each with its first text.

    Neighbours in a file may be alike: blocks of them would hold few of its subjects.
    """
    split = files.split
    count = len(split.image_rows)
    chosen = np.linspace(0, count - 1, min(images, count)).astype(int)
    if len(chosen) < 4:
        raise UserError(f"{len(chosen)} images are too few to compare encoders: give the split 4 or more")
    _, first = np.unique(split.text_image, return_index=True)
    image_rows = files.images.take(split.image_rows[chosen]).double()
    text_rows = files.texts.gather(split.text_rows[first[chosen]]).double()
    k = min(k, len(chosen) - 2)
    return RepresentationSimilarity(
        images=len(chosen),
        neighbours=k,
        cka=debiased_cka(image_rows, text_rows),
        mutual_neighbours=mutual_neighbours(image_rows, text_rows, k),
        chance=k / (len(chosen) - 1),
    )


def debiased_cka(first: Tensor, second: Tensor) -> float | None:
    """Return the linear CKA of rows (n, D1) and (n, D2), n > 3, with unbiased estimates of its three terms.

    Neither n nor the widths raise it, so encoders of different widths can be compared: 0 is expected of unrelated ones,
    and values slightly below 0 occur. None if a representation does not vary. Song et al. 2012, Feature Selection via
    Dependence Maximization, equation 5; Nguyen, Raghu and Kornblith 2021, Do Wide and Deep Networks Learn the Same
    Things?
    """
    # Unbiased terms are the same for centred rows, and rounding is smaller.
    first, second = (_without_diagonal(rows - rows.mean(0)) for rows in (first, second))
    scale = _unbiased_hsic(first, first) * _unbiased_hsic(second, second)
    return float(_unbiased_hsic(first, second) / scale.sqrt()) if scale > 0 else None


def _without_diagonal(rows: Tensor) -> Tensor:
    return (rows @ rows.T).fill_diagonal_(0)


def _unbiased_hsic(first: Tensor, second: Tensor) -> Tensor:
    """Return the unbiased estimate of HSIC from two Gram matrices (n, n) with zeros on the diagonal."""
    n, of_first, of_second = len(first), first.sum(0), second.sum(0)
    total = (first * second).sum() - 2 * (of_first @ of_second) / (n - 2)
    total += of_first.sum() * of_second.sum() / ((n - 1) * (n - 2))
    return total / (n * (n - 3))


def mutual_neighbours(first: Tensor, second: Tensor, k: int = NEIGHBOURS) -> float:
    """Return the mean share of the k nearest rows, by cosine, that rows (n, D1) and (n, D2) have in common.

    Rows that are equally near share the places that are left among them, as on average over all orders. Huh et al.
    2024, The Platonic Representation Hypothesis, section 3 and appendix A.
    """
    both = [_Neighbours.of(rows) for rows in (first, second)]
    common = [(both[0].weights(rows, k) * both[1].weights(rows, k)).sum() for rows in blocks(len(first), ROWS_AT_ONCE)]
    return float(sum(common)) / (k * len(first))


@dataclass(frozen=True)
class _Neighbours:
    """Unit rows (u, D) of a representation, each different one once, and which of them each item has, (n,)."""

    different: Tensor
    which: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> "_Neighbours":
        # A product of equal rows may be rounded differently at another place: each is multiplied once.
        different, which = torch.unique(rows, dim=0, return_inverse=True)
        return cls(normalize(different, dim=1), which)

    def weights(self, items: slice, k: int) -> Tensor:
        """Return how much of each item (b, n) is among the k nearest of some items: 1, 0, or a share of a tie."""
        own = self.which[items]
        similarities = (self.different[own] @ self.different.T)[:, self.which]
        similarities[torch.arange(len(own)), torch.arange(len(self.which))[items]] = -torch.inf
        last = similarities.topk(k, dim=1).values[:, -1:]
        nearer, tied = similarities > last, similarities == last
        left = k - nearer.sum(1, keepdim=True)
        return nearer.double() + tied.double() * left / tied.sum(1, keepdim=True)

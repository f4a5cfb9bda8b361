"""Why a head retrieves as it does: geometry of its projections, hubs, similarity of the encoders, caption lengths.

Nothing is chosen by these numbers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenalign.evaluation.metrics import RECALLS, recall
from frozenalign.evaluation.projections import Projections
from frozenalign.evaluation.retrieval import Evaluation
from frozenalign.system.products import product

UNIFORMITY_ROWS = 2000
ROWS_AT_ONCE = 4096
# Directions with less than this share of the squared length are float32 rounding errors.
ROUNDING = torch.finfo(torch.float32).eps ** 2
QUARTILES = (25, 50, 75)


def diagnostics(
    evaluation: Evaluation, projections: Projections, cka: float | None, captions: Sequence[str] | None
) -> dict[str, Any]:
    """Return the content of `diagnostics` in metrics.json, before any re-ranking.

    projections: where the rows lie, without any penalty for hubs. cka: of the two encoders. captions: the text of each
    of the M evaluated captions, or None if the metadata has none.
    """
    images, texts = projections.images, projections.texts
    return {
        "modality_gap": modality_gap(images, texts),
        "alignment": alignment(images, texts, projections.text_image),
        "uniformity": {"images": uniformity(images), "texts": uniformity(texts)},
        "hubness": {name: hubness(times) for name, times in evaluation.occurrences.items()},
        "effective_rank": {"images": effective_rank(images), "texts": effective_rank(texts)},
        "encoder_cka": cka,
        "recall_by_caption_length": captions and recall_by_caption_length(evaluation.ranks.t2i, captions),
    }


def modality_gap(images: Tensor, texts: Tensor) -> float:
    """Return the Euclidean distance between the mean of images (N, D) and the mean of texts (M, D).

    Liang et al. 2022, Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive Representation Learning.
    """
    return float((images.mean(0) - texts.mean(0)).norm())


def alignment(images: Tensor, texts: Tensor, text_image: Tensor) -> float:
    """Return the mean squared distance between texts (M, D) and their images (N, D), text j of image text_image[j].

    Wang and Isola 2020, Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere.
    """
    return float((images[text_image] - texts).square().sum(1).mean())


def uniformity(rows: Tensor, seed: int = 0) -> float | None:
    """Return log mean exp(-2 |x - y|²) over all pairs of different rows (N, D), None of a single row.

    Of more than 2,000 rows, that many are drawn by the seed. Wang and Isola 2020, as for the alignment.
    """
    if len(rows) > UNIFORMITY_ROWS:
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:UNIFORMITY_ROWS]
        rows = rows[chosen.to(rows.device)]
    rows, count = rows.cpu(), len(rows)
    if count < 2:
        return None
    products = product(rows, rows.T)
    # With lengths taken from the products themselves, the distance of a row from itself is exactly zero.
    lengths = products.diagonal().clone()
    closeness = products.mul_(2).sub_(lengths).sub_(lengths[:, None]).mul_(2).exp_()
    pairs = closeness.sum(dtype=torch.float64) - count
    return float((pairs / (count * (count - 1))).log())


def hubness(occurrences: np.ndarray) -> float:
    """Return the skewness of how often each candidate is among the best ten of the queries, (M,).

    Zero if all occur equally often, as in a gallery of at most ten rows. Radovanović et al. 2010, Hubs in Space:
    Popular Nearest Neighbors in High-Dimensional Data.
    """
    return skewness(torch.from_numpy(occurrences))


def skewness(values: Tensor) -> float:
    """Return the third standardised moment of values (N,), zero if they are all equal."""
    centred = values.double() - values.double().mean()
    variance = centred.square().mean()
    return float(centred.pow(3).mean() / variance.pow(1.5)) if variance > 0 else 0.0


def effective_rank(rows: Tensor) -> float:
    """Return exp of the entropy of the normalised singular values of the centred rows (N, D), zero of equal rows.

    Roy and Vetterli 2007, The Effective Rank: A Measure of Effective Dimensionality.
    """
    mean = rows.mean(0).cpu().double()
    gram = mean.new_zeros(len(mean), len(mean))
    for part in rows.split(ROWS_AT_ONCE):
        centred = part.cpu().double() - mean
        gram.addmm_(centred.T, centred)
    squares = torch.linalg.eigvalsh(gram)
    singular = squares[squares > ROUNDING * float(rows.square().sum())].sqrt()
    if not len(singular):
        return 0.0
    shares = singular / singular.sum()
    return float((-(shares * shares.log()).sum()).exp())


def recall_by_caption_length(t2i: np.ndarray, captions: Sequence[str]) -> list[dict[str, Any]]:
    """Return the recalls of captions with few to many words, in bins that end at the quartiles of the word count.

    t2i: (M,) 0-based rank of each caption's image. Quartiles that coincide leave fewer than four bins.
    """
    words = np.array([len(caption.split()) for caption in captions])
    ends = np.percentile(words, QUARTILES, method="inverted_cdf")
    bins = np.searchsorted(np.unique(ends), words)
    found = []
    for chosen in np.unique(bins):
        own = words[bins == chosen]
        recalls = {name: recall(t2i[bins == chosen], k) for name, k in RECALLS.items()}
        found.append({"words": [int(own.min()), int(own.max())], "captions": len(own)} | recalls)
    return found

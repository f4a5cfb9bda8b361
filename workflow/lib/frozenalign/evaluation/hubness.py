"""Hubness correction: candidates close to very many training queries score lower, or they would answer all queries.

Terms that depend on the query alone change no ranking, so every correction here is s(q, g) - c(g). The penalty c of an
image is computed from training captions and that of a caption from training images, never from evaluated queries.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.pairs import spread
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.metrics import Ranks, summarize
from frozenalign.evaluation.projections import Projections
from frozenalign.evaluation.ranks import RankCounts
from frozenalign.evaluation.shares import Share
from frozenalign.system.products import blocks, product

TRAINING_PAIRS = 20_000
GALLERY_AT_ONCE = 256


def csls(similarities: Tensor, k: int) -> Tensor:
    """Return c = r / 2, (G,), from similarities (G, Q) of G candidates with Q training queries.

    Cross-domain similarity local scaling: 2 s(q, g) - r(g), r the mean of the k largest s(·, g). Conneau et al. 2018,
    Word Translation Without Parallel Data.
    """
    return similarities.topk(min(k, similarities.shape[1]), dim=1).values.mean(1) / 2


def inverted_softmax(similarities: Tensor, temperature: float) -> Tensor:
    """Return c = T log Σ exp(s / T), (G,), from similarities (G, Q) of G candidates with Q training queries.

    Inverted softmax: s(q, g) / T - log Σ exp(s(·, g) / T). Smith et al. 2017, Offline Bilingual Word Vectors,
    Orthogonal Transformations and the Inverted Softmax.
    """
    return temperature * (similarities / temperature).logsumexp(1)


# What returns the penalties of candidates; metrics.json records the function's name and its setting.
Method = functools.partial[Tensor]
CANDIDATES = (
    functools.partial(csls, k=10),
    *(functools.partial(inverted_softmax, temperature=temperature) for temperature in (0.02, 0.05, 0.1)),
)


def method_of(described: Mapping[str, Any]) -> Method | None:
    """Return the candidate that `HubnessCorrection.described` describes, or None."""
    return next((each for each in CANDIDATES if _named(each).items() <= described.items()), None)


def _named(method: Method) -> dict[str, Any]:
    return {"type": method.func.__name__, **method.keywords}


@dataclass(frozen=True)
class CorrectedProjections:
    """Projections with one more dimension, so that their product is s - c: one pair for each retrieval direction."""

    to_images: Projections
    to_texts: Projections

    def ranks(self) -> Ranks:
        """Return the exact retrieval ranks of the corrected similarities."""
        return replace(self.to_texts.ranks(), t2i=self.to_images.ranks().t2i)

    def rank_counts(self, share: Share) -> tuple[RankCounts, RankCounts]:
        """Return what a share of the scores adds to the ranks: the first holds for `t2i`, the second for `captions`."""
        return self.to_images.rank_counts(share), self.to_texts.rank_counts(share)

    def of_images(self, start: int, stop: int) -> "CorrectedProjections":
        """Return images start to stop - 1 with their texts."""
        return CorrectedProjections(self.to_images.of_images(start, stop), self.to_texts.of_images(start, stop))


@dataclass(frozen=True)
class HubnessCorrection:
    """The method that validation chose, the training projections it uses, and its RSUM on the validation pairs."""

    method: Method
    training: Projections
    validation_rsum: float

    def corrected(self, projections: Projections) -> CorrectedProjections:
        """Return projections that rank by the corrected similarities."""
        return all_corrected([self.method], self.training, projections)[0]

    def described(self) -> dict[str, Any]:
        """Return the choice as metrics.json records it."""
        return {
            **_named(self.method),
            "validation_RSUM": self.validation_rsum,
            "training_images": len(self.training.images),
            "training_captions": len(self.training.texts),
        }


def choose_correction(training: Projections, validation: Projections) -> HubnessCorrection:
    """Return the candidate whose correction by the training pairs has the highest RSUM on the validation pairs."""
    rsums = [summarize(each.ranks())["RSUM"] for each in all_corrected(CANDIDATES, training, validation)]
    best = int(np.argmax(rsums))
    return HubnessCorrection(CANDIDATES[best], training, rsums[best])


def all_corrected(
    methods: Sequence[Method], training: Projections, projections: Projections
) -> list[CorrectedProjections]:
    """Return projections that rank by each method's corrected similarities; the training similarities are shared."""
    images, texts = projections.images, projections.texts
    to_images, to_texts = penalties(methods, images, training.texts), penalties(methods, texts, training.images)
    return [
        CorrectedProjections(
            replace(projections, images=extended(images, -of_images), texts=extended(texts, 1.0)),
            replace(projections, images=extended(images, 1.0), texts=extended(texts, -of_texts)),
        )
        for of_images, of_texts in zip(to_images, to_texts, strict=True)
    ]


def penalties(methods: Sequence[Method], gallery: Tensor, queries: Tensor) -> list[Tensor]:
    """Return each method's penalty of every row of the gallery, (N,)."""
    similarities = (product(gallery[part], queries.T) for part in blocks(len(gallery), GALLERY_AT_ONCE))
    by_block = [[method(block) for method in methods] for block in similarities]
    return [torch.cat(of_method) for of_method in zip(*by_block, strict=True)]


def extended(rows: Tensor, value: Tensor | float) -> Tensor:
    """Return rows (N, D) with the value, one for all or (N,), as one more dimension, (N, D + 1)."""
    extended = rows.new_empty(len(rows), rows.shape[1] + 1)
    extended[:, :-1], extended[:, -1] = rows, value
    return extended


def training_sample(split: SplitIndex, pairs: int = TRAINING_PAIRS) -> SplitIndex:
    """Return images spread over a split with all their captions, at most `pairs` captions but at least one image."""
    captions = np.bincount(split.text_image, minlength=len(split.image_rows))
    images = spread(np.arange(len(captions)), max(1, len(captions) * pairs // len(split.text_image)))
    images = images[: max(1, np.searchsorted(np.cumsum(captions[images]), pairs, side="right"))]
    return split.of_images(images)

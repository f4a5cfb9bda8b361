"""Hubness correction: what is near to very many training queries is lowered, for it would answer every query.

A term of the query alone changes no ranking, so that every correction here is s(q, g) - c(g). The penalty c of an image
comes from training captions and that of a caption from training images: no other query of the evaluation is looked at.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.pairs import PairFiles, spread
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.metrics import summarize
from frozenalign.evaluation.projections import Projections, project_files
from frozenalign.evaluation.ranks import Ranks
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.products import blocks, product

TRAINING_PAIRS = 20_000
GALLERY_AT_ONCE = 256


@dataclass(frozen=True)
class LocalScaling:
    """Cross-domain similarity local scaling (CSLS): 2 s(q, g) - r(g), r the mean of the k largest s(·, g).

    Conneau et al. 2018, Word Translation Without Parallel Data.
    """

    type: ClassVar[str] = "csls"
    k: int

    def penalties(self, similarities: Tensor) -> Tensor:
        """Return c = r / 2, (G,), from similarities (G, Q) of G candidates with Q training queries."""
        return similarities.topk(min(self.k, similarities.shape[1]), dim=1).values.mean(1) / 2


@dataclass(frozen=True)
class InvertedSoftmax:
    """Inverted softmax: s(q, g) / T - log Σ exp(s(·, g) / T).

    Smith et al. 2017, Offline Bilingual Word Vectors, Orthogonal Transformations and the Inverted Softmax.
    """

    type: ClassVar[str] = "inverted_softmax"
    temperature: float

    def penalties(self, similarities: Tensor) -> Tensor:
        """Return c = T log Σ exp(s / T), (G,), from similarities (G, Q) of G candidates with Q training queries."""
        return self.temperature * (similarities / self.temperature).logsumexp(1)


Method = LocalScaling | InvertedSoftmax
CANDIDATES = (LocalScaling(k=10), *(InvertedSoftmax(temperature) for temperature in (0.02, 0.05, 0.1)))


@dataclass(frozen=True)
class CorrectedProjections:
    """Projections with one more dimension, whose product is s - c: one pair for each direction of the retrieval."""

    to_images: Projections
    to_texts: Projections

    def ranks(self) -> Ranks:
        """Return the exact retrieval ranks of the corrected similarities."""
        to_texts = self.to_texts.ranks()
        return replace(to_texts, t2i=self.to_images.ranks().t2i)

    def of_images(self, start: int, stop: int) -> "CorrectedProjections":
        """Return images start to stop - 1 with their texts."""
        return CorrectedProjections(self.to_images.of_images(start, stop), self.to_texts.of_images(start, stop))


@dataclass(frozen=True)
class HubnessCorrection:
    """A correction with the projections of the training pairs that it looks at."""

    method: Method
    training: Projections

    def corrected(self, projections: Projections) -> CorrectedProjections:
        """Return what ranks by the corrected similarities."""
        (corrected,) = all_corrected([self.method], self.training, projections)
        return corrected


def all_corrected(
    methods: Sequence[Method], training: Projections, projections: Projections
) -> list[CorrectedProjections]:
    """Return what ranks by each method's corrected similarities; those with the training pairs are computed once."""
    images, texts = projections.images, projections.texts
    penalties = zip(
        _penalties(methods, images, training.texts), _penalties(methods, texts, training.images), strict=True
    )
    return [
        CorrectedProjections(
            replace(projections, images=_extended(images, -of_images), texts=_extended(texts, 1.0)),
            replace(projections, images=_extended(images, 1.0), texts=_extended(texts, -of_texts)),
        )
        for of_images, of_texts in penalties
    ]


def _penalties(methods: Sequence[Method], gallery: Tensor, queries: Tensor) -> list[Tensor]:
    """Return each method's penalty of every row of the gallery, (N,)."""
    similarities = (product(gallery[part], queries.T) for part in blocks(len(gallery), GALLERY_AT_ONCE))
    by_block = [[method.penalties(block) for method in methods] for block in similarities]
    return [torch.cat(of_method) for of_method in zip(*by_block, strict=True)]


def _extended(rows: Tensor, value: Tensor | float) -> Tensor:
    """Return rows (N, D) with a value each as one more dimension, (N, D + 1)."""
    extended = rows.new_empty(len(rows), rows.shape[1] + 1)
    extended[:, :-1], extended[:, -1] = rows, value
    return extended


@dataclass(frozen=True)
class ChosenCorrection:
    """The correction that validation chose, and its RSUM there."""

    correction: HubnessCorrection
    validation_rsum: float

    def described(self) -> dict[str, Any]:
        """Return the choice as metrics.json records it."""
        method, training = self.correction.method, self.correction.training
        return {
            "type": method.type,
            **asdict(method),
            "validation_RSUM": self.validation_rsum,
            "training_images": len(training.images),
            "training_captions": len(training.texts),
        }


def choose_correction(training: Projections, validation: Projections) -> ChosenCorrection:
    """Return the candidate whose correction by the training pairs has the highest RSUM on the validation pairs."""
    rsums = [summarize(each.ranks())["RSUM"] for each in all_corrected(CANDIDATES, training, validation)]
    best = int(np.argmax(rsums))
    return ChosenCorrection(HubnessCorrection(CANDIDATES[best], training), rsums[best])


def project_sample(model: DualEncoder, training: PairFiles, device: torch.device) -> Projections:
    """Project the training pairs that corrections look at."""
    return project_files(model, replace(training, split=training_sample(training.split)), device)


def training_sample(split: SplitIndex, pairs: int = TRAINING_PAIRS) -> SplitIndex:
    """Return images spread over a split with all their captions, at most `pairs` captions but at least one image."""
    captions = np.bincount(split.text_image, minlength=len(split.image_rows))
    images = spread(np.arange(len(captions)), max(1, len(captions) * pairs // len(split.text_image)))
    images = images[: max(1, np.searchsorted(np.cumsum(captions[images]), pairs, side="right"))]
    return split.of_images(images)

"""Hubness correction: candidates close to very many training queries score lower, or they would answer all queries.

Terms that depend on the query alone change no ranking, so every correction here is s(q, g) - c(g). The penalty c of an
image is computed from training captions and that of a caption from training images, never from evaluated queries.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.pairs import spread
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.counting import Penalties
from frozenalign.evaluation.metrics import DIRECTIONS, RECALLS, summarize
from frozenalign.evaluation.projections import Projections
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
class HubnessCorrection:
    """The method that validation chose, and the training projections that it uses.

    plain, corrected: R@1 + R@5 + R@10 of the validation pairs by direction, without and with it.
    """

    method: Method
    training: Projections
    plain: dict[str, float]
    corrected: dict[str, float]

    def penalties(self, projections: Projections) -> Penalties:
        """Return what the correction subtracts from the scores of these projections."""
        return all_penalties([self.method], self.training, projections)[0]

    def described(self) -> dict[str, Any]:
        """Return the choice as metrics.json records it."""
        return {
            **_named(self.method),
            "validation_RSUM": sum(self.corrected.values()),
            "validation": {"plain": self.plain, "corrected": self.corrected},
            "training_images": len(self.training.images),
            "training_captions": len(self.training.texts),
        }


def choose_correction(training: Projections, validation: Projections) -> HubnessCorrection:
    """Return the candidate whose correction by the training pairs has the highest RSUM on the validation pairs."""
    ranks = validation.all_ranks([None, *all_penalties(CANDIDATES, training, validation)])
    plain, *corrected = (_recalls(summarize(each)) for each in ranks)
    best = int(np.argmax([sum(each.values()) for each in corrected]))
    return HubnessCorrection(CANDIDATES[best], training, plain, corrected[best])


def _recalls(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the sum of the recalls of a summary by direction."""
    return {direction: sum(summary[direction][name] for name in RECALLS) for direction in DIRECTIONS}


def all_penalties(methods: Sequence[Method], training: Projections, projections: Projections) -> list[Penalties]:
    """Return each method's penalties of the projections; the training similarities are shared."""
    of_images = penalties(methods, projections.images, training.texts)
    of_texts = penalties(methods, projections.texts, training.images)
    return [Penalties(*each) for each in zip(of_images, of_texts, strict=True)]


def penalties(methods: Sequence[Method], gallery: Tensor, queries: Tensor) -> list[Tensor]:
    """Return each method's penalty of every row of the gallery, (N,)."""
    similarities = (product(gallery[part], queries.T) for part in blocks(len(gallery), GALLERY_AT_ONCE))
    by_block = [[method(block) for method in methods] for block in similarities]
    return [torch.cat(of_method) for of_method in zip(*by_block, strict=True)]


def training_sample(split: SplitIndex, pairs: int = TRAINING_PAIRS) -> SplitIndex:
    """Return images spread over a split with all their captions, at most `pairs` captions but at least one image."""
    captions = np.bincount(split.text_image, minlength=len(split.image_rows))
    images = spread(np.arange(len(captions)), max(1, len(captions) * pairs // len(split.text_image)))
    images = images[: max(1, np.searchsorted(np.cumsum(captions[images]), pairs, side="right"))]
    return split.of_images(images)

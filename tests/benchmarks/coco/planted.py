"""Embeddings with planted structure, of any size, whose best possible retrieval is known.

An image has Gaussian factors. What its captions are about, their topic, is the factors themselves, or a random
two-layer network of them: then no linear map finds it from the image. Each caption has the topic plus noise of its own.

Embeddings hold the factors, or the noisy topic, in random directions with a long-tailed spectrum, beside nuisance
directions that are stronger and shared with nothing, and noise in every dimension.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch

from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.metrics import Ranks, summarize
from frozenalign.evaluation.ranks import retrieval_ranks

# Hidden units of the network, and nuisance directions, for each factor.
HIDDEN, NUISANCES = 4, 2
NUISANCE, NOISE = 1.5, 0.3
DECAY = 0.5
IMAGES_AT_ONCE, SAMPLE = 1024, 16_384
# Streams of random numbers: each block of each has a generator of its own, so that no order of calls matters.
MAPS, OF_FACTORS, OF_CAPTIONS, OF_IMAGES, OF_TEXTS, OF_COUNTS = range(6)


@dataclass(frozen=True)
class Planted:
    """What is planted. images: how many, with five captions each and now and then a sixth, as COCO has them.

    factors: the fewer, the fewer images it takes to learn what is planted; a network of them some factors² / 2.
    caption_noise: standard deviation in each factor, of which the topic has 1.
    """

    images: int
    image_dim: int = 768
    text_dim: int = 4096
    nonlinear: bool = True
    factors: int = 64
    caption_noise: float = 1.8
    seed: int = 0

    @functools.cached_property
    def captions(self) -> np.ndarray:
        """Return the number of captions of each image (images,)."""
        sixth = self._generator(OF_COUNTS).random(self.images) < 318 / 118_287
        return 5 + sixth.astype(np.int64)

    @functools.cached_property
    def owners(self) -> np.ndarray:
        """Return the image of each caption (pairs,), ascending."""
        return np.repeat(np.arange(self.images), self.captions)

    def blocks(self) -> list[slice]:
        """Return consecutive slices of the images."""
        starts = range(0, self.images, IMAGES_AT_ONCE)
        return [slice(start, min(start + IMAGES_AT_ONCE, self.images)) for start in starts]

    def image_rows(self, block: slice) -> np.ndarray:
        """Return the embeddings of a block's images, one a caption, (captions, image_dim) float32."""
        rows = self._rows(OF_IMAGES, block.start, self._factors(block), self.image_dim)
        return np.repeat(rows, self.captions[block], axis=0)

    def text_rows(self, block: slice) -> np.ndarray:
        """Return the embeddings of the captions of a block's images, (captions, text_dim) float32."""
        return self._rows(OF_TEXTS, block.start, self._caption_topics(block), self.text_dim)

    def ceiling(self, split: SplitIndex) -> dict:
        """Return the metrics of whoever knows all maps: a match is scored by its likelihood ratio against chance."""
        images = np.unique(self.owners[split.image_rows])
        topics = np.concatenate([self._topics(block) for block in self.blocks()])[images]
        noisy = np.concatenate([self._caption_topics(block) for block in self.blocks()])[split.text_rows]
        text_image = np.searchsorted(images, self.owners[split.text_rows])
        return summarize(_likelihood_ranks(topics, noisy, text_image, self.caption_noise**2))

    def _factors(self, block: slice) -> np.ndarray:
        """Return the factors of a block's images, (b, factors)."""
        return _normal(self._generator(OF_FACTORS, block.start), block.stop - block.start, self.factors)

    def _topics(self, block: slice) -> np.ndarray:
        """Return what the captions of a block's images are about, (b, factors), with the identity as covariance."""
        return self._topic_of(self._factors(block))

    def _caption_topics(self, block: slice) -> np.ndarray:
        """Return the noisy topic of each caption of a block's images, (captions, factors)."""
        topics = np.repeat(self._topics(block), self.captions[block], axis=0)
        return topics + self.caption_noise * _normal(self._generator(OF_CAPTIONS, block.start), *topics.shape)

    def _topic_of(self, factors: np.ndarray) -> np.ndarray:
        if not self.nonlinear:
            return factors
        mean, whitening = self._topic_scale
        return (self._network(factors) - mean) @ whitening

    def _network(self, factors: np.ndarray) -> np.ndarray:
        inner, outer = self._network_weights
        return np.maximum(factors @ inner, 0) @ outer

    @functools.cached_property
    def _network_weights(self) -> tuple[np.ndarray, np.ndarray]:
        generator, hidden = self._generator(MAPS, 0), HIDDEN * self.factors
        return _directions(generator, self.factors, hidden), _directions(generator, hidden, self.factors)

    @functools.cached_property
    def _topic_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of the network's outputs and the matrix that gives them the identity as covariance."""
        sample = self._network(_normal(self._generator(MAPS, 1), SAMPLE, self.factors))
        values, vectors = np.linalg.eigh(np.cov(sample, rowvar=False))
        return sample.mean(0), (vectors / np.sqrt(values) @ vectors.T).astype(np.float32)

    def _rows(self, stream: int, block: int, signal: np.ndarray, width: int) -> np.ndarray:
        """Return embeddings (n, width) of a signal (n, factors)."""
        generator = self._generator(stream, block)
        rows = _normal(generator, len(signal), width)
        rows *= NOISE / np.sqrt(width)
        hidden = np.concatenate([signal, _normal(generator, len(signal), NUISANCES * self.factors)], axis=1)
        rows += hidden @ self._directions_in(stream, width)
        return rows

    def _directions_in(self, stream: int, width: int) -> np.ndarray:
        """Return the directions of factors and nuisances in embeddings, ((1 + NUISANCES) factors, width)."""
        tails = [(1 + np.arange(count)) ** -DECAY for count in (self.factors, NUISANCES * self.factors)]
        lengths = np.concatenate([tails[0], NUISANCE * tails[1]]).astype(np.float32)
        directions = _normal(self._generator(MAPS, stream), len(lengths), width)
        return directions * lengths[:, None] / np.float32(np.sqrt(width))

    def _generator(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *stream])


def _normal(generator: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return generator.standard_normal((rows, columns), dtype=np.float32)


def _directions(generator: np.random.Generator, inputs: int, outputs: int) -> np.ndarray:
    """Return a random map (inputs, outputs) that keeps the variance of inputs of variance 1."""
    return _normal(generator, inputs, outputs) / np.float32(np.sqrt(inputs))


def _likelihood_ranks(topics: np.ndarray, noisy: np.ndarray, text_image: np.ndarray, noise: float) -> Ranks:
    """Return ranks by log p(caption | image) - log p(caption), written as inner products.

    topics: (n, K) of variance 1. noisy: (m, K), topics plus noise of variance `noise`.
    """
    lengths = (topics**2).sum(1, keepdims=True), (noisy**2).sum(1, keepdims=True)
    images = np.concatenate([topics / noise, -lengths[0] / (2 * noise), np.ones_like(lengths[0])], axis=1)
    own = lengths[1] * (0.5 / (1 + noise) - 0.5 / noise)
    texts = np.concatenate([noisy, np.ones_like(own), own], axis=1)
    rows = (torch.from_numpy(each.astype(np.float32)) for each in (images, texts))
    return retrieval_ranks(*rows, torch.from_numpy(text_image))

"""How many candidates score at least as high as each match, counted tile by tile of all scores."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from frozenalign.evaluation.shares import Share


@dataclass(frozen=True)
class Penalties:
    """What is subtracted from the scores of candidates: of images (N,) that captions ask for, of texts (M,)."""

    images: Tensor
    texts: Tensor


@dataclass(frozen=True)
class RankCounts:
    """What a share of all scores adds to the ranks of M captions.

    t2i, captions: (M,) whole numbers, which added up over the shares are those of `Ranks`. tiles: rows and columns of
    the tiles of scores. matches: SHA-256 of the scores of the matches, which all others were compared with.
    """

    t2i: np.ndarray
    captions: np.ndarray
    tiles: int
    matches: str


@dataclass(frozen=True)
class Captions:
    """M captions, those of an image after each other, with the scores of their matches.

    order: (M,) their places among the texts. owner: (M,) ascending images. scores: (M,). filled: (N, most captions)
    whether an image has so many; its own captions fill its row from the left.
    """

    order: Tensor
    owner: Tensor
    scores: Tensor
    filled: Tensor


class Ranking:
    """The counts of one ranking: by the scores, or by the scores less penalties."""

    def __init__(self, captions: Captions, penalties: Penalties | None) -> None:
        self.captions, self.of_images, self.of_texts = captions, None, None
        self.to_images = self.to_texts = captions.scores
        if penalties is not None:
            self.of_images, self.of_texts = penalties.images, penalties.texts[captions.order]
            self.to_images = captions.scores - self.of_images[captions.owner]
            self.to_texts = captions.scores - self.of_texts
        filled = captions.filled
        self.own = torch.full(filled.shape, -torch.inf, device=filled.device)
        self.own[filled] = self.to_texts
        self.thresholds = self.own.masked_fill(~filled, torch.inf)
        # Whole numbers: float32 would lose count beyond 2^24 rows.
        self.image_counts = torch.zeros_like(self.thresholds, dtype=torch.long)
        self.text_counts = torch.zeros_like(captions.owner)

    def add(self, rows: slice, columns: slice, scores: Tensor, left: Tensor, above: Tensor) -> None:
        """Count a tile of the scores of images and captions; left, above: (rows, columns) to compute in."""
        to_images = to_texts = scores
        if self.of_images is not None:
            to_images = torch.sub(scores, self.of_images[rows, None], out=left)
        self.text_counts[columns] += torch.ge(to_images, self.to_images[columns], out=above).sum(0).long()
        if self.of_texts is not None:
            to_texts = torch.sub(scores, self.of_texts[columns], out=left)
        for k in range(self.thresholds.shape[1]):
            self.image_counts[rows, k] += torch.ge(to_texts, self.thresholds[rows, k, None], out=above).sum(1).long()

    def found(self, share: Share, tiles: int) -> RankCounts:
        """Return the counts in the order of the texts; the first share leaves out those of the matches themselves."""
        filled = self.captions.filled
        texts, captions = self.text_counts, self.image_counts[filled]
        if share.part == 1:
            own_above = (self.own[self.captions.owner] >= self.to_texts[:, None]).sum(1)
            # Own captions with equal scores take places in file order.
            places = torch.argsort(torch.argsort(self.own, dim=1, descending=True, stable=True), dim=1)
            texts, captions = texts - 1, captions - own_above + places[filled]
        inverse = torch.argsort(self.captions.order)
        matches = torch.stack([self.to_images, self.to_texts])
        return RankCounts(
            t2i=texts[inverse].cpu().numpy(),
            captions=captions[inverse].cpu().numpy(),
            tiles=tiles,
            matches=hashlib.sha256(matches.cpu().numpy().tobytes()).hexdigest(),
        )

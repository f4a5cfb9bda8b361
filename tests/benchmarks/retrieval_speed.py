"""Exact ranks of both directions: streamed, against the full matrix, against the usual harness, against the product."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from frozenalign.evaluation.metrics import Ranks, summarize
from frozenalign.evaluation.ranks import retrieval_ranks
from frozenalign.system.devices import choose_device
from tests.benchmarks.measurement import Row, interleaved, seconds_of, timed_memory

WIDTH, CAPTIONS = 512, 5
HARNESS_BATCH = 64


def measure(quick: bool = False) -> list[Row]:
    """Rank COCO's test set by three ways, and larger sets by ours alone."""
    device = choose_device("auto")
    images, texts, owner = projections(100 if quick else 5_000, device)
    name = f"{len(images):,} × {len(texts):,}, {device.type}"

    def ours() -> Ranks:
        ranks = retrieval_ranks(images, texts, owner)
        summarize(ranks)
        return ranks

    _, extra = timed_memory(ours)
    _compare(ours(), *sorted_ranks(images, texts, owner))
    medians = interleaved(
        1 if quick else 3,
        ours=ours,
        argsorts=lambda: sorted_ranks(images, texts, owner),
        one_hot=lambda: one_hot_recalls(images, texts, owner),
        limit=product_alone(images, texts),
    )
    rows = [
        Row(f"{name}, against {reference}", medians["ours"], medians[case], medians["limit"], extra)
        for case, reference in (("argsorts", "two argsorts"), ("one_hot", "top-k and one-hot"))
    ]
    return [*rows, at_scale(200 if quick else 20_000, device)]


def at_scale(count: int, device: torch.device) -> Row:
    """Rank `count` images and five times as many captions once, beside the product alone."""
    images, texts, owner = projections(count, device)
    limit = seconds_of(product_alone(images, texts))
    seconds, extra = timed_memory(lambda: retrieval_ranks(images, texts, owner))
    return Row(f"{len(images):,} × {len(texts):,}, {device.type}", seconds, limit=limit, extra_bytes=extra)


def projections(count: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return unit vectors of images (N, 512) and their captions (5 N, 512), and each caption's image (5 N,)."""
    generator = torch.Generator().manual_seed(0)
    images = functional.normalize(torch.randn(count, WIDTH, generator=generator), dim=1)
    owner = torch.arange(count).repeat_interleave(CAPTIONS)
    texts = functional.normalize(
        images[owner] + 3 * torch.randn(len(owner), WIDTH, generator=generator) / WIDTH**0.5, dim=1
    )
    return images.to(device), texts.to(device), owner.to(device)


def product_alone(images: Tensor, texts: Tensor) -> Callable[[], None]:
    """Return the matrix product of all scores, in pieces that are thrown away."""
    rows = 1024
    piece = torch.empty(rows, len(texts), device=images.device) if len(texts) < 2**17 else None

    def call() -> None:
        for start in range(0, len(images), rows):
            part = images[start : start + rows]
            if piece is None:
                for texts_part in texts.split(2**16):
                    torch.mm(part, texts_part.T)
            else:
                torch.mm(part, texts.T, out=piece[: len(part)])
        if images.device.type == "cuda":
            torch.cuda.synchronize()

    return call


def sorted_ranks(images: Tensor, texts: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Return 0-based ranks (M,) of images and (N,) of best captions from the full matrix and two argsorts."""
    scores = texts @ images.T
    t2i = (torch.argsort(scores, dim=1, descending=True) == owner[:, None]).int().argmax(1)
    found = (
        owner[torch.argsort(scores.T, dim=1, descending=True)]
        == torch.arange(len(images), device=images.device)[:, None]
    )
    return t2i.cpu(), found.int().argmax(1).cpu()


def one_hot_recalls(images: Tensor, texts: Tensor, owner: Tensor) -> list[float]:
    """Return recalls at 1, 5 and 10 of both directions as the usual benchmark harness finds them."""
    scores = texts @ images.T
    positives = torch.zeros(len(texts), len(images), dtype=torch.bool, device=images.device)
    positives[torch.arange(len(texts), device=images.device), owner] = True
    pairs = ((scores, positives), (scores.T, positives.T))
    return [_one_hot_recall(matrix, positive, k) for k in (1, 5, 10) for matrix, positive in pairs]


def _one_hot_recall(scores: Tensor, positives: Tensor, k: int) -> float:
    found = []
    for start in range(0, len(scores), HARNESS_BATCH):
        batch = slice(start, start + HARNESS_BATCH)
        best = torch.topk(scores[batch], k, dim=1)[1]
        chosen = functional.one_hot(best, num_classes=scores.shape[1])
        positive = positives[batch].view(-1, 1, scores.shape[1])
        found.append((chosen * positive).sum(dim=(1, 2)) > 0)
    return torch.cat(found).float().mean().item()


def _compare(ranks: Ranks, t2i: Tensor, i2t: Tensor) -> None:
    if (ranks.t2i != t2i.cpu().numpy()).any() or (ranks.i2t != i2t.cpu().numpy()).any():
        raise AssertionError("ranks differ from those of the full matrix")

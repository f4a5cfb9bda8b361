"""Losses, gradients, ranks and micro-batches of a device against those of the CPU."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from frozenalign.evaluation.ranks import retrieval_ranks
from frozenalign.losses.queue import QueueLoss
from frozenalign.losses.registry import LOSSES, build_loss
from frozenalign.system.products import reduced_precision
from frozenalign.training.fit import start
from frozenalign.training.steps import train_step
from tests.benchmarks.retrieval_speed import projections
from tests.device.findings import Finding, at_most
from tests.device.sizes import Sizes
from tests.small_training import SMALL, experiment, raw, rotated_pairs

CPU = torch.device("cpu")
PAIRS, WIDTH = 96, 32
# Float32 sums in another order, and of factors in bf16 as training takes them.
TOLERANCE, TOLERANCE_OF_BF16 = 1e-4, 3e-2
# Gradients that are zero but for rounding, as of a bias before a batch norm, are compared with this share of the
# largest of all.
NEGLIGIBLE = 1e-3
# Two scores that differ by rounding may change places.
SHARE_OF_RANKS = 1e-4
LOSS_OF_HEAD = {"siglip": "siglip", "align": "align", "blip": "blip", "cross_modal": "siglip", "attention": "queue"}


def losses(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Compare the value and the gradients of every registered loss, with captions of one image masked and not.

    In float32, and on the device with factors in bf16.
    """
    for name in LOSSES:
        exact, rounded = _gradients_of_loss(name, False, CPU), _gradients_of_loss(name, False, device, torch.bfloat16)
        yield at_most("agreement", f"loss {name}, factors in bf16", _difference(rounded, exact), TOLERANCE_OF_BF16)
        for masked in (False, True):
            expected, found = (_gradients_of_loss(name, masked, each) for each in (CPU, device))
            case = f"loss {name}" + (", same image masked" if masked else "")
            yield at_most("agreement", case, _difference(found, expected), TOLERANCE)


def heads(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Compare the gradients of a step of every head, and those of a batch in parts with those of the whole batch."""
    for head in SMALL:
        expected, found = (_gradients_of_step(head, each) for each in (CPU, device))
        # The pair scorer's hard negatives are drawn on the device, by its own random numbers.
        if head != "cross_modal":
            yield at_most("agreement", f"step of {head}", _difference(found, expected), TOLERANCE)
        # A batch norm needs all rows at once.
        if head != "align":
            in_parts = _gradients_of_step(head, device, part=16)
            yield at_most("agreement", f"micro-batches of {head}", _difference(in_parts, found), TOLERANCE)


def ranks(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Compare exact ranks."""
    images, texts, owner = projections(sizes.images // 5, CPU)
    expected = retrieval_ranks(images, texts, owner)
    found = retrieval_ranks(*(each.to(device) for each in (images, texts, owner)))
    differing = int((found.t2i != expected.t2i).sum() + (found.i2t != expected.i2t).sum())
    count = len(texts) + len(images)
    yield at_most("agreement", f"{count:,} ranks that differ, as a share", differing / count, SHARE_OF_RANKS)


def _gradients_of_loss(
    name: str, masked: bool, device: torch.device, format: torch.dtype = torch.float32
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    loss = build_loss({"type": name}, PAIRS, masked)
    vectors = [functional.normalize(torch.randn(PAIRS, WIDTH, generator=generator), dim=1) for _ in range(4)]
    keys = vectors[2:] if isinstance(loss, QueueLoss) else []
    if keys:
        torch.manual_seed(0)
        loss.prepare_queue(WIDTH)
    loss.to(device)
    x, y = (each.to(device).requires_grad_() for each in vectors[:2])
    owner = (torch.arange(PAIRS) // 2).to(device)
    with reduced_precision(x.to(format)):
        value = loss(x, y, owner, *(each.to(device) for each in keys))
    learned = [each for each in loss.parameters() if each.requires_grad]
    return [value.detach(), *torch.autograd.grad(value, [x, y, *learned])]


def _gradients_of_step(head: str, device: torch.device, part: int | None = None) -> list[Tensor]:
    model = {} if head == "linear" else {"dropout": 0.0}
    settings = experiment(head, {"type": LOSS_OF_HEAD.get(head, "clip")}, model=model, structure=0.1, gradient_clip=0.0)
    data = raw(rotated_pairs(40, 2)).to(device)
    state = start(settings, data, seed=0)
    state.model.train()
    state.part = {str(device): part} if part else {}
    if isinstance(state.loss, QueueLoss):
        _fill_queue(state.loss, settings.model["output_dim"], device)
    torch.manual_seed(1)
    train_step(state, data.train.batch(torch.arange(0, 64, device=device)), 1.0, settings.training)
    return [each.grad for each in state.optimizer.parameters if each.grad is not None]


def _fill_queue(loss: QueueLoss, width: int, device: torch.device) -> None:
    """Fill a queue with the random vectors of the CPU, whatever device it is on."""
    loss.to(CPU)
    torch.manual_seed(0)
    loss.prepare_queue(width)
    loss.to(device)


def _difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest difference of two lists of tensors, each as a share of its tensor's largest value."""
    sizes = [float(each.abs().max()) for each in expected]
    least = max(NEGLIGIBLE * max(sizes), 1e-6)
    differences = [float((one.cpu() - other.cpu()).abs().max()) for one, other in zip(found, expected, strict=True)]
    return max(difference / max(size, least) for difference, size in zip(differences, sizes, strict=True))

"""Losses that compare features with keys: those of the batch and a queue of earlier ones, from a momentum copy."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from frozenalign.configuration.parameters import NonNegativeFloat, PositiveFloat, PositiveInt, Probability
from frozenalign.losses.key_sums import contrast_sum, soft_target_sum
from frozenalign.losses.registry import FixedTemperature, register_loss
from frozenalign.losses.softmax import cross_entropy_of_logits
from frozenalign.losses.tiled import PairSum, TiledLoss
from frozenalign.system.products import tile_size


class QueueLoss(TiledLoss):
    """Base of the losses with a queue, whose size does not depend on the batch size.

    It starts with random unit vectors that belong to no image, and starts again when the feature width changes.
    """

    def __init__(self, queue_size: int, momentum: float | None) -> None:
        super().__init__()
        self.momentum = momentum
        self.queue_size = queue_size
        self.register_buffer("image_queue", torch.empty(queue_size, 0))
        self.register_buffer("text_queue", torch.empty(queue_size, 0))
        self.register_buffer("queue_index", torch.full((queue_size,), -1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    def of_logits(self, logits: Tensor, weight: float) -> Tensor:
        """Return the loss of logits (…, B, C) with keys of distinct images."""
        return cross_entropy_of_logits(logits, weight)

    def in_blocks(self, compute: Callable[..., tuple[Tensor, ...]], *arguments: Any) -> tuple[Tensor, ...]:
        """Return compute(size, *arguments), with blocks of anchors and keys that fit into the device's memory."""
        device = self.position.device
        return self.tiles.run(compute, tile_size(device), device, *arguments)

    def prepare_queue(self, width: int) -> None:
        """Fill the queue with random unit vectors unless it has this width."""
        if self.image_queue.shape[1] != width:
            for name in ("image_queue", "text_queue"):
                random = torch.randn(self.queue_size, width, device=self.position.device)
                setattr(self, name, functional.normalize(random, dim=1))
            self.queue_index.fill_(-1)
            self.position.zero_()

    @torch.no_grad()
    def enqueue(self, image_keys: Tensor, text_keys: Tensor, image_index: Tensor) -> None:
        """Overwrite the oldest keys by the newest (B, D); of a batch larger than the queue the last ones stay."""
        count = min(len(image_index), self.queue_size)
        slots = (self.position + torch.arange(count, device=image_index.device)) % self.queue_size
        self.image_queue[slots] = image_keys[-count:]
        self.text_queue[slots] = text_keys[-count:]
        self.queue_index[slots] = image_index[-count:]
        self.position.copy_((self.position + count) % self.queue_size)


@register_loss("queue")
class MoCoLoss(FixedTemperature, QueueLoss):
    """Each feature against its own key and a queue of other keys: CE([q·k⁺, q·queue] / T, 0), mean of both directions.

    He et al. 2020, Momentum Contrast for Unsupervised Visual Representation Learning. Queue entries of the anchor's
    own image are left out of the sum.

    temperature: T, not learned; auto fits it to the validation features at the start.
    queue_size: keys held of each modality.
    momentum: share of its old weights that the momentum copy keeps in a step; null takes the head's, or 0.999.
    """

    learns_temperature = False
    default_momentum = 0.999
    published_temperature = 0.07

    def __init__(
        self,
        *,
        temperature: PositiveFloat | Literal["auto"] = 0.07,
        queue_size: PositiveInt = 65536,
        momentum: Probability | None = None,
    ) -> None:
        super().__init__(queue_size, momentum)
        self.temperature = self.numeric(temperature)

    def negatives(self, batch_size: int) -> int:
        """Return the size of the queue: other pairs of the batch are no negatives."""
        return self.queue_size

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor, image_keys: Tensor, text_keys: Tensor) -> Tensor:
        """Return the loss of features (B, D) against keys (B, D) and the queue."""
        self.prepare_queue(x.shape[1])
        share = self.processes.own
        images, scale = share(image_index), x.new_full((), 1 / self.temperature)

        def one_way(anchors: Tensor, keys: Tensor, queue: Tensor) -> Tensor:
            sources = [(queue, self.queue_index)]
            compute = partial(self.in_blocks, contrast_sum, scale, share(keys), images, sources)
            return PairSum.apply(compute, anchors)

        total = one_way(x, text_keys, self.text_queue) + one_way(y, image_keys, self.image_queue)
        return total / (2 * len(image_index))


@register_loss("blip")
class BLIPLoss(QueueLoss):
    """Image-text contrast with soft targets: targets are α softmax(momentum similarities) + (1 - α) T.

    T spreads each row evenly over the keys of the same image, in the batch and in the queue. Li et al. 2021, Align
    before Fuse, and Li et al. 2022, BLIP.

    temperature: start of the learned temperature, kept in [0.001, 0.5]; auto fits it to the validation features at the
        start.
    queue_size: keys held of each modality.
    momentum: share of its old weights that the momentum copy keeps in a step; null takes the head's, or 0.995.
    alpha: weight of the momentum copy's own similarities in the targets, reached linearly over the first epoch.
    """

    default_momentum = 0.995
    published_temperature = 0.07
    bounds = (0.001, 0.5)

    def __init__(
        self,
        *,
        temperature: PositiveFloat | Literal["auto"] = 0.07,
        queue_size: PositiveInt = 57600,
        momentum: Probability | None = None,
        alpha: NonNegativeFloat = 0.4,
    ) -> None:
        super().__init__(queue_size, momentum)
        self.temperature = nn.Parameter(torch.tensor(self.numeric(temperature)))
        self.alpha = alpha
        # On the device, where steps read it; set before each of them, so it is no part of the state.
        self.register_buffer("raised_alpha", torch.zeros(()), persistent=False)

    def negatives(self, batch_size: int) -> int:
        """Return the other pairs of the batch and the queue."""
        return batch_size - 1 + self.queue_size

    def start_step(self, epochs_done: float) -> None:
        """Raise α linearly over the first epoch."""
        self.raised_alpha.fill_(self.alpha * min(1.0, epochs_done))

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor, image_keys: Tensor, text_keys: Tensor) -> Tensor:
        """Return the loss of features (B, D) against keys (B, D) and the queue."""
        self.prepare_queue(x.shape[1])
        share = self.processes.own
        images, scale = share(image_index), 1 / self.temperature

        def one_way(anchors: Tensor, copies: Tensor, keys: Tensor, queue: Tensor) -> Tensor:
            sources = [(keys, image_index), (queue, self.queue_index)]
            compute = partial(self.in_blocks, soft_target_sum, share(copies), images, self.raised_alpha, sources)
            return PairSum.apply(compute, anchors, scale)

        total = one_way(x, image_keys, text_keys, self.text_queue) + one_way(y, text_keys, image_keys, self.image_queue)
        return total / (2 * len(image_index))

    def after_step(self) -> None:
        """Keep the temperature within its bounds."""
        self.temperature.data.clamp_(*self.bounds)

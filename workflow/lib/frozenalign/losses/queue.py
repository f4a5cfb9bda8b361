"""Losses that compare features with keys: those of the batch and a queue of earlier ones, from a momentum copy."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from frozenalign.configuration.parameters import NonNegativeFloat, PositiveFloat, PositiveInt, Probability
from frozenalign.losses.registry import ContrastiveLoss, FixedTemperature, register_loss
from frozenalign.losses.softmax import cross_entropy_of_logits


class QueueLoss(ContrastiveLoss):
    """Base of the losses with a queue, whose size does not depend on the batch size.

    It starts with random unit vectors that belong to no image, and starts again when the feature width changes.
    """

    shares_rows = True

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

    temperature: T, not learned; auto fits it to the features that training starts from.
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
        own = share(image_index)[:, None] == self.queue_index[None, :]
        to_texts = self._one_way(x, share(text_keys), self.text_queue, own)
        to_images = self._one_way(y, share(image_keys), self.image_queue, own)
        return (to_texts + to_images) / (2 * len(image_index))

    def _one_way(self, anchors: Tensor, keys: Tensor, queue: Tensor, own: Tensor) -> Tensor:
        positive = (anchors * keys).sum(1, keepdim=True)
        negative = (anchors @ queue.T).masked_fill(own, -torch.inf)
        logits = torch.cat([positive, negative], dim=1) / self.temperature
        return functional.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long), reduction="sum")


@register_loss("blip")
class BLIPLoss(QueueLoss):
    """Image-text contrast with soft targets: targets are α softmax(momentum similarities) + (1 - α) T.

    T spreads each row evenly over the keys of the same image, in the batch and in the queue. Li et al. 2021, Align
    before Fuse, and Li et al. 2022, BLIP.

    temperature: start of the learned temperature, kept in [0.001, 0.5]; auto fits it to the features that training
        starts from.
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
        self.register_buffer("ramp", torch.zeros(()), persistent=False)

    def negatives(self, batch_size: int) -> int:
        """Return the other pairs of the batch and the queue."""
        return batch_size - 1 + self.queue_size

    def start_step(self, epochs_done: float) -> None:
        """Raise α linearly over the first epoch."""
        self.ramp.fill_(min(1.0, epochs_done))

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor, image_keys: Tensor, text_keys: Tensor) -> Tensor:
        """Return the loss of features (B, D) against keys (B, D) and the queue."""
        self.prepare_queue(x.shape[1])
        all_images = torch.cat([image_keys, self.image_queue])
        all_texts = torch.cat([text_keys, self.text_queue])
        share = self.processes.own
        same = (share(image_index)[:, None] == torch.cat([image_index, self.queue_index])[None, :]).float()
        hard = same / same.sum(1, keepdim=True)
        to_texts = self._one_way(x, share(image_keys), all_texts, hard)
        to_images = self._one_way(y, share(text_keys), all_images, hard)
        return (to_texts + to_images) / (2 * len(image_index))

    def _one_way(self, anchors: Tensor, anchor_keys: Tensor, keys: Tensor, hard: Tensor) -> Tensor:
        alpha = self.alpha * self.ramp
        with torch.no_grad():
            soft = torch.softmax(anchor_keys @ keys.T / self.temperature, dim=1)
            target = alpha * soft + (1 - alpha) * hard
        return -(target * torch.log_softmax(anchors @ keys.T / self.temperature, dim=1)).sum(1).sum()

    def after_step(self) -> None:
        """Keep the temperature in [0.001, 0.5]."""
        self.temperature.data.clamp_(0.001, 0.5)

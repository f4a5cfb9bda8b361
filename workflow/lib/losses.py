"""Training objectives on unit vectors, as their authors' code computes them, and their registry.

Notation: x and y are L2-normalised image and text features (B, D), S = x yᵀ, row = image to text.
Parameters are keyword-only arguments annotated with the types of `parameters`; configuration, tuning and documentation
read them from here.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from workflow.lib.parameters import NonNegativeFloat, Number, PositiveFloat, PositiveInt, Probability
from workflow.lib.tiled import SigmoidPairs, SoftmaxPairs

LOSSES: dict[str, type["ContrastiveLoss"]] = {}


def register_loss(name: str) -> Callable[[type["ContrastiveLoss"]], type["ContrastiveLoss"]]:
    """Register a loss class under the name that `loss.type` gives; a name is taken once."""

    def register(loss: type["ContrastiveLoss"]) -> type["ContrastiveLoss"]:
        if name in LOSSES:
            raise ValueError(f"the loss {name!r} is registered twice")
        LOSSES[name] = loss
        return loss

    return register


def build_loss(settings: Mapping[str, Any], batch_size: int, mask_same_image: bool = False) -> "ContrastiveLoss":
    """Return the loss that the `loss` section of an experiment describes, for batches of `batch_size` pairs.

    mask_same_image: leave other pairs of an anchor's own image out of the loss, for batches that may hold some.
    """
    parameters = {name: value for name, value in settings.items() if name != "type"}
    loss = LOSSES[settings["type"]](**parameters)
    loss.mask_same_image = mask_same_image
    loss.expect_batches(batch_size)
    return loss


class ContrastiveLoss(nn.Module):
    """What the training loop asks of a loss; the methods here are for losses that need nothing of the kind.

    mask_same_image: whether other pairs of an anchor's own image are left out; losses with a queue always do.
    """

    mask_same_image = False

    def expect_batches(self, batch_size: int) -> None:
        """Learn the batch size before training, for initial values that depend on it."""

    def start_step(self, epochs_done: float) -> None:
        """Learn how far training is, in epochs, before a step."""

    def after_step(self) -> None:
        """Bring learned values back into their bounds after the optimiser's step."""

    def terms(self) -> dict[str, Tensor]:
        """Return the scalars worth a place in the log: temperatures and biases."""
        return {}

    def freeze_temperature(self) -> None:
        """Keep the temperature where it starts."""


@register_loss("siglip")
class SigLIPLoss(ContrastiveLoss):
    """Pairwise sigmoid loss: -(1/B) Σij log σ(z_ij (exp(t') S_ij + b)), a sum over B² divided by B.

    Zhai et al. 2023, Sigmoid Loss for Language Image Pre-Training. The scale has no upper bound.

    temperature: start of 1 / exp(t').
    bias_init: start of b; auto takes ln(p / (1 - p)) with p = 1 / B.
    """

    def __init__(self, *, temperature: PositiveFloat = 0.1, bias_init: Number | Literal["auto"] = -10.0) -> None:
        super().__init__()
        self.bias_init = bias_init
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))
        self.bias = nn.Parameter(torch.tensor(0.0 if bias_init == "auto" else float(bias_init)))

    def expect_batches(self, batch_size: int) -> None:
        """Set an automatic bias so that every pair starts at the share of matches in a batch."""
        if self.bias_init == "auto":
            self.bias.data.fill_(-math.log(max(batch_size, 2) - 1))

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor) -> Tensor:
        """Return the loss of features (B, D) and (B, D)."""
        masked = image_index if self.mask_same_image else None
        return SigmoidPairs.apply(x, y, self.logit_scale.exp(), self.bias, masked) / len(x)

    def terms(self) -> dict[str, Tensor]:
        """Return temperature and bias."""
        return {"temperature": (-self.logit_scale).exp(), "bias": self.bias}

    def freeze_temperature(self) -> None:
        """Keep the scale where it starts; the bias stays learnable."""
        self.logit_scale.requires_grad_(False)


class SoftmaxLoss(ContrastiveLoss):
    """A loss of the cross-entropies of both directions over the batch, with smoothed labels."""

    label_smoothing = 0.0

    def _cross_entropies(self, x: Tensor, y: Tensor, image_index: Tensor, scale: Tensor) -> Tensor:
        """Return CE_row + CE_col of the logits scale x yᵀ, whose diagonal holds the matches."""
        total = SoftmaxPairs.apply(x, y, scale, image_index if self.mask_same_image else None)
        if self.label_smoothing:
            matches = (x * y).sum()
            mean_of_each_row = x.sum(0) @ y.sum(0) / len(x)
            total = total + 2 * self.label_smoothing * scale * (matches - mean_of_each_row)
        return total / len(x)


@register_loss("clip")
class CLIPLoss(SoftmaxLoss):
    """Symmetric softmax loss with a learned scale: ½ (CE_row(s S) + CE_col(s S)).

    Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision.

    temperature: start of 1 / s; s is kept in [1, 100].
    label_smoothing: share of the target spread over the whole batch.
    """

    def __init__(self, *, temperature: PositiveFloat = 0.07, label_smoothing: Probability = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor) -> Tensor:
        """Return the loss of features (B, D) and (B, D)."""
        return self._cross_entropies(x, y, image_index, self.logit_scale.exp()) / 2

    def after_step(self) -> None:
        """Keep the logarithm of the scale in [0, ln 100]."""
        self.logit_scale.data.clamp_(0.0, math.log(100.0))

    def terms(self) -> dict[str, Tensor]:
        """Return the temperature."""
        return {"temperature": (-self.logit_scale).exp()}

    def freeze_temperature(self) -> None:
        """Keep the scale where it starts."""
        self.logit_scale.requires_grad_(False)


@register_loss("infonce")
class InfoNCELoss(SoftmaxLoss):
    """Symmetric softmax loss with a fixed temperature: ½ (CE_row(S / T) + CE_col(S / T)).

    van den Oord et al. 2018, Representation Learning with Contrastive Predictive Coding.

    temperature: T, not learned.
    label_smoothing: share of the target spread over the whole batch.
    """

    def __init__(self, *, temperature: PositiveFloat = 0.05, label_smoothing: Probability = 0.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.label_smoothing = label_smoothing

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor) -> Tensor:
        """Return the loss of features (B, D) and (B, D)."""
        return self._cross_entropies(x, y, image_index, x.new_tensor(1 / self.temperature)) / 2


@register_loss("align")
class ALIGNLoss(SoftmaxLoss):
    """Softmax losses of both directions, added up: CE_row(S / τ) + CE_col(S / τ), with label smoothing.

    Jia et al. 2021, Scaling Up Visual and Vision-Language Representation Learning With Noisy Text Supervision.

    temperature: start of τ, learned without bounds.
    label_smoothing: share of the target spread over the whole batch.
    """

    def __init__(self, *, temperature: PositiveFloat = 1.0, label_smoothing: Probability = 0.1) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(float(temperature)))
        self.label_smoothing = label_smoothing

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor) -> Tensor:
        """Return the loss of features (B, D) and (B, D)."""
        return self._cross_entropies(x, y, image_index, 1 / self.temperature)

    def terms(self) -> dict[str, Tensor]:
        """Return the temperature."""
        return {"temperature": self.temperature}

    def freeze_temperature(self) -> None:
        """Keep τ where it starts."""
        self.temperature.requires_grad_(False)


class QueueLoss(ContrastiveLoss):
    """A loss that compares features with keys of a momentum copy, those of the batch and those of a queue.

    The queue starts with random unit vectors that belong to no image, holds its capacity whatever the batch size, and
    is made anew when the feature width changes.
    """

    def __init__(self, queue_size: int, momentum: float | None) -> None:
        super().__init__()
        self.momentum = momentum
        self.queue_size = queue_size
        self.register_buffer("image_queue", torch.empty(queue_size, 0))
        self.register_buffer("text_queue", torch.empty(queue_size, 0))
        self.register_buffer("queue_index", torch.full((queue_size,), -1))
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    def prepare_queue(self, width: int, device: torch.device) -> None:
        """Make a queue of random unit vectors unless there is one of this width."""
        if self.image_queue.shape[1] != width:
            for name in ("image_queue", "text_queue"):
                random = torch.randn(self.queue_size, width, device=device)
                setattr(self, name, functional.normalize(random, dim=1))
            self.queue_index = torch.full((self.queue_size,), -1, device=device)
            self.position = torch.zeros((), dtype=torch.long, device=device)

    @torch.no_grad()
    def enqueue(self, image_keys: Tensor, text_keys: Tensor, image_index: Tensor) -> None:
        """Put the newest keys (B, D) over the oldest, wrapping at the end; of a batch beyond capacity the last stay."""
        kept = slice(max(0, len(image_index) - self.queue_size), None)
        image_keys, text_keys, image_index = image_keys[kept], text_keys[kept], image_index[kept]
        steps = torch.arange(len(image_index), device=image_index.device)
        slots = (self.position + steps) % self.queue_size
        self.image_queue[slots] = image_keys
        self.text_queue[slots] = text_keys
        self.queue_index[slots] = image_index
        self.position.copy_((self.position + len(image_index)) % self.queue_size)


@register_loss("queue")
class MoCoLoss(QueueLoss):
    """Each feature against its own key and a queue of other keys: CE([q·k⁺, q·queue] / T, 0), mean of both directions.

    He et al. 2020, Momentum Contrast for Unsupervised Visual Representation Learning. Queue entries of the anchor's
    own image are left out of the sum.

    temperature: T, not learned.
    queue_size: keys held of each modality.
    momentum: share of its old weights that the momentum copy keeps in a step; null takes the head's, or 0.999.
    """

    default_momentum = 0.999

    def __init__(
        self,
        *,
        temperature: PositiveFloat = 0.07,
        queue_size: PositiveInt = 65536,
        momentum: Probability | None = None,
    ) -> None:
        super().__init__(queue_size, momentum)
        self.temperature = temperature

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor, image_keys: Tensor, text_keys: Tensor) -> Tensor:
        """Return the loss of features (B, D) against keys (B, D) and the queue."""
        self.prepare_queue(x.shape[1], x.device)
        own = image_index[:, None] == self.queue_index[None, :]
        return (
            self._one_way(x, text_keys, self.text_queue, own) + self._one_way(y, image_keys, self.image_queue, own)
        ) / 2

    def _one_way(self, anchors: Tensor, keys: Tensor, queue: Tensor, own: Tensor) -> Tensor:
        positive = (anchors * keys).sum(1, keepdim=True)
        negative = (anchors @ queue.T).masked_fill(own, -torch.inf)
        logits = torch.cat([positive, negative], dim=1) / self.temperature
        return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


@register_loss("blip")
class BLIPLoss(QueueLoss):
    """Image-text contrast with soft targets: targets are α softmax(momentum similarities) + (1 - α) T.

    T spreads each row evenly over the keys of the same image, in the batch and in the queue. Li et al. 2021, Align
    before Fuse, and Li et al. 2022, BLIP.

    temperature: start of the learned temperature, kept in [0.001, 0.5].
    queue_size: keys held of each modality.
    momentum: share of its old weights that the momentum copy keeps in a step; null takes the head's, or 0.995.
    alpha: weight of the momentum copy's own similarities in the targets, reached linearly over the first epoch.
    """

    default_momentum = 0.995

    def __init__(
        self,
        *,
        temperature: PositiveFloat = 0.07,
        queue_size: PositiveInt = 57600,
        momentum: Probability | None = None,
        alpha: NonNegativeFloat = 0.4,
    ) -> None:
        super().__init__(queue_size, momentum)
        self.temperature = nn.Parameter(torch.tensor(float(temperature)))
        self.alpha = alpha
        self.ramp = 0.0

    def start_step(self, epochs_done: float) -> None:
        """Raise α linearly over the first epoch."""
        self.ramp = min(1.0, epochs_done)

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor, image_keys: Tensor, text_keys: Tensor) -> Tensor:
        """Return the loss of features (B, D) against keys (B, D) and the queue."""
        self.prepare_queue(x.shape[1], x.device)
        all_images = torch.cat([image_keys, self.image_queue])
        all_texts = torch.cat([text_keys, self.text_queue])
        same = (image_index[:, None] == torch.cat([image_index, self.queue_index])[None, :]).float()
        hard = same / same.sum(1, keepdim=True)
        return (self._one_way(x, image_keys, all_texts, hard) + self._one_way(y, text_keys, all_images, hard)) / 2

    def _one_way(self, anchors: Tensor, anchor_keys: Tensor, keys: Tensor, hard: Tensor) -> Tensor:
        alpha = self.alpha * self.ramp
        with torch.no_grad():
            soft = torch.softmax(anchor_keys @ keys.T / self.temperature, dim=1)
            target = alpha * soft + (1 - alpha) * hard
        return -(target * torch.log_softmax(anchors @ keys.T / self.temperature, dim=1)).sum(1).mean()

    def after_step(self) -> None:
        """Keep the temperature in [0.001, 0.5]."""
        self.temperature.data.clamp_(0.001, 0.5)

    def terms(self) -> dict[str, Tensor]:
        """Return the temperature."""
        return {"temperature": self.temperature}

    def freeze_temperature(self) -> None:
        """Keep the temperature where it starts."""
        self.temperature.requires_grad_(False)

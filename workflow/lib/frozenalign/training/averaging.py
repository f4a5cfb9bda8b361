"""Copies of a model that follow its weights: averages that are validated and kept, momentum copies for queues."""

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from frozenalign.models.dual_encoder import DualEncoder, WhitenedTower

Kept = Callable[[int], float]


def exponential(decay: float) -> Kept:
    """Return the share of the old average that a step keeps: `decay`, less in the first steps so that they fade.

    Polyak and Juditsky 1992, Acceleration of Stochastic Approximation by Averaging.
    """
    return lambda step: min(decay, (1 + step) / (10 + step))


def uniform(first_step: int) -> Kept:
    """Return the share that makes the average the plain mean of all weights from a step on.

    Izmailov et al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization.
    """
    return lambda step: max(0, step - first_step) / (max(0, step - first_step) + 1)


class WeightAverage(nn.Module):
    """A copy of a model whose weights and floating-point buffers are an average over the steps of training.

    kept: share of its old value that the average keeps in a step, given the number of earlier steps. first_step: the
    first one whose weights stay in it; up to then, and with it alone, the copy has the plain weights.
    """

    def __init__(self, model: DualEncoder, kept: Kept, first_step: int = 0) -> None:
        super().__init__()
        self.model = _copied(model)
        self.kept, self.first_step = kept, first_step

    def update(self, model: DualEncoder, step: int) -> None:
        """Add the weights after a step to the average."""
        _follow(self.model, model, self.kept(step))

    def warnings(self, steps: int) -> list[str]:
        """Return a warning if the copy had averaged nothing after the steps whose weights were kept."""
        if steps >= self.first_step + 2:
            return []
        return [
            f"training.weight_average averages from step {self.first_step + 1} on but the weights that were kept are "
            f"those after step {steps}: the head has plain weights; raise training.patience, or lower "
            "training.num_epochs, so that the best epoch comes later than the average begins"
        ]


@torch.no_grad()
def renew_batch_norm(model: DualEncoder, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Replace running means and variances by those of all rows: standardised images (B, D_image), texts (B, D_text).

    Averaged statistics do not fit the activations of averaged weights. Every row counts alike, whatever its batch.
    """
    norms = {module: InputMoments() for module in model.modules() if isinstance(module, nn.BatchNorm1d)}
    if not norms:
        return
    # Dropout stays off: it would draw random numbers and change the activations.
    model.eval()
    hooks = [norm.train().register_forward_pre_hook(moments.add) for norm, moments in norms.items()]
    for images, texts in batches:
        model.image_tower(images)
        model.text_tower(texts)
    for hook in hooks:
        hook.remove()
    for norm, moments in norms.items():
        norm.reset_running_stats()
        norm.running_mean.copy_(moments.mean)
        norm.running_var.copy_(moments.squares / (moments.count - 1))


class InputMoments:
    """Mean (C,) of the rows (B, C) that enter a layer, and the sum (C,) of their squared distances from it.

    Chan, Golub and LeVeque 1983, Algorithms for Computing the Sample Variance.
    """

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, layer: nn.Module, entering: tuple[Tensor]) -> None:
        """Add the rows of a batch, as a hook before the layer."""
        rows = entering[0].float()
        mean, own, count = rows.mean(0), len(rows), self.count + len(rows)
        distance = mean - self.mean.to(mean.device)
        self.squares = self.squares.to(mean.device) + (rows - mean).square().sum(0)
        self.squares += distance.square() * (self.count * own / count)
        self.mean = self.mean.to(mean.device) + distance * (own / count)
        self.count = count


class MomentumCopy(nn.Module):
    """A copy of a model's towers that follows them slowly: copy = m copy + (1 - m) towers, including buffers."""

    scorer = None

    def __init__(self, model: DualEncoder, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.image_tower = _copied(model.image_tower)
        self.text_tower = _copied(model.text_tower)

    def update(self, model: DualEncoder) -> None:
        """Move towards the model's present weights."""
        _follow(self.image_tower, model.image_tower, self.momentum)
        _follow(self.text_tower, model.text_tower, self.momentum)


def _copied(model: nn.Module) -> nn.Module:
    """Return a copy without gradients, which has the whitening matrices of the model itself: they never change."""
    fixed = [module.matrix for module in model.modules() if isinstance(module, WhitenedTower)]
    return copy.deepcopy(model, {id(matrix): matrix for matrix in fixed}).requires_grad_(False)


@torch.no_grad()
def _follow(copy: nn.Module, model: nn.Module, kept: float) -> None:
    """Set weights and floating-point buffers to kept · copy + (1 - kept) · model; counters are copied."""
    own, other = (dict([*each.named_parameters(), *each.named_buffers()]) for each in (copy, model))
    own = {name: value for name, value in own.items() if value is not other[name]}
    floating = [name for name, value in own.items() if value.is_floating_point()]
    torch._foreach_lerp_([own[name] for name in floating], [other[name] for name in floating], 1.0 - kept)
    for name in own.keys() - set(floating):
        own[name].copy_(other[name])

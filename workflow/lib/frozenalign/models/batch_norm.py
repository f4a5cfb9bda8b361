"""Batch norm over the rows of several processes."""

import torch
from torch import Tensor, nn

from frozenalign.system.processes import Processes


class SharedBatchNorm(nn.BatchNorm1d):
    """A batch norm whose statistics in training are those of the rows (b, D) of all processes together.

    Ioffe and Szegedy 2015, Batch Normalization. It takes over the parameters and buffers of `norm`;
    `nn.SyncBatchNorm` needs a GPU.
    """

    def __init__(self, norm: nn.BatchNorm1d, processes: Processes) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.processes = processes
        self._parameters, self._buffers = norm._parameters, norm._buffers

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, D) to (b, D); an evaluation uses the running statistics, in one process alone."""
        if not self.training:
            return super().forward(x)
        rows = x.float()
        count = self.processes.sum_with_gradient(rows.new_full((), len(rows)))
        mean = self.processes.sum_with_gradient(rows.sum(0)) / count
        variance = self.processes.sum_with_gradient((rows - mean).square().sum(0)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        scaled = (rows - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
        return scaled.to(x.dtype)


def share_batch_norms(model: nn.Module, processes: Processes) -> None:
    """Replace the batch norms of a model by shared ones with the same parameters and buffers."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm1d):
                setattr(module, name, SharedBatchNorm(child, processes))

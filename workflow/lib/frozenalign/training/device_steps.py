"""Steps whose inputs all lie on a GPU: it repeats them, and the CPU does not launch hundreds of kernels for each."""

import logging

import torch
from torch import Tensor

from frozenalign.configuration.experiments import TrainingSettings
from frozenalign.data.pairs import ResidentPairs, TrainingPairs
from frozenalign.system.recording import Recording, can_record, record
from frozenalign.training.steps import Fit, compute_step, end_step, train_step

logger = logging.getLogger(__name__)
# Steps of a size that are launched kernel by kernel: they find the memory that a step takes, and what fits in it.
LAUNCHED = 3


def take_step(state: Fit, train: TrainingPairs, pairs: Tensor, mixed_share: float, settings: TrainingSettings) -> None:
    """Take a step on pairs (B,) of the training pairs; mixed_share: λ of the step, where pairs are mixed.

    A GPU that holds all rows computes the first steps as they are launched and repeats the others from a recording, one
    for each size of a batch; the results are the same, bit for bit.
    """
    if not (can_record(train.device) and isinstance(train, ResidentPairs) and state.processes.count == 1):
        train_step(state, train.batch(pairs), mixed_share, settings)
        return
    if len(pairs) not in state.device_steps:
        state.device_steps[len(pairs)] = DeviceStep(len(pairs), train)
    state.device_steps[len(pairs)].take(state, pairs, mixed_share, settings)
    end_step(state)


class DeviceStep:
    """The step on as many pairs, which reads its inputs from tensors of the device."""

    def __init__(self, count: int, train: ResidentPairs) -> None:
        self.train = train
        self.pairs = torch.zeros(count, dtype=torch.long, device=train.device)
        self.mixed_share, self.learning_rate = (torch.zeros((), device=train.device) for _ in range(2))
        self.launched = 0
        self.recording: Recording | None = None

    def take(self, state: Fit, pairs: Tensor, mixed_share: float, settings: TrainingSettings) -> None:
        """Compute a step on pairs (B,)."""
        self.pairs.copy_(pairs)
        self.mixed_share.fill_(mixed_share)
        self.learning_rate.fill_(state.learning_rate(state.step))
        if self.launched == LAUNCHED and self.recording is None:
            self.recording = self._recorded(state, settings)
        if self.recording:
            self.recording.replay()
        else:
            self._launch(state, settings)
            self.launched += 1

    def _launch(self, state: Fit, settings: TrainingSettings) -> None:
        compute_step(state, self.train.batch(self.pairs), self.mixed_share, self.learning_rate, settings)

    def _recorded(self, state: Fit, settings: TrainingSettings) -> Recording | None:
        """Return a recording of the step, or None where it cannot be recorded."""
        if state.part:
            return None  # The random numbers of a part are drawn again from a state that the CPU keeps.
        others = (step.recording for step in state.device_steps.values() if step.recording)
        try:
            return record(lambda: self._launch(state, settings), memory_of=next(others, None))
        except RuntimeError as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            logger.info("steps of %d pairs are launched kernel by kernel: %s", len(self.pairs), reason)
            return None

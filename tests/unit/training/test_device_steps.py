"""Steps that a device repeats from a recording: the same bits as launched ones, and launched where that cannot be."""

from unittest import mock

import pytest
import torch

from frozenalign.training import device_steps
from frozenalign.training.checkpoints import Checkpoint
from frozenalign.training.fit import fit, start
from frozenalign.training.steps import Fit
from tests.simulated_recording import simulated_recording
from tests.small_training import NAMED, REGULARISED, SMALL, STATEFUL, assert_same, experiment, raw, rotated_pairs

OTHERS = [(head, {"type": "infonce"}) for head in SMALL.keys() - {head for head, _ in STATEFUL}]
TRAININGS = dict(zip(NAMED, STATEFUL, strict=True)) | {head: (head, loss) for head, loss in sorted(OTHERS)}
DATA = raw(rotated_pairs(50, 3))


def trained(head: str, loss: dict, **settings) -> Fit:
    return fit(experiment(head, loss, **(REGULARISED | settings)), DATA, seed=0)


def launched(head: str, loss: dict, **settings) -> Fit:
    with simulated_recording(), mock.patch.object(device_steps, "LAUNCHED", -1):
        return trained(head, loss, **settings)


@pytest.mark.parametrize("name", TRAININGS)
def test_repeated_steps_are_those_that_are_launched_bit_for_bit(name):
    head, loss = TRAININGS[name]
    with simulated_recording() as recordings:
        found = trained(head, loss)
    expected = launched(head, loss)
    assert [each.repeated for each in recordings] == [found.step - device_steps.LAUNCHED]
    assert found.history == expected.history
    assert_same(found.model.state_dict(), expected.model.state_dict())
    assert_same(found.loss.state_dict(), expected.loss.state_dict())
    assert found.loss_sum.equal(expected.loss_sum)


def test_each_size_of_a_batch_has_a_recording():
    with simulated_recording() as recordings:
        found = trained("mlp", {"type": "clip"}, batch_size=40)
    expected = launched("mlp", {"type": "clip"}, batch_size=40)
    assert [each.repeated > 0 for each in recordings] == [True, True]
    assert_same(found.model.state_dict(), expected.model.state_dict())


def test_a_training_that_was_interrupted_goes_on_with_launched_steps_and_ends_with_the_same_bits(tmp_path):
    head, loss = STATEFUL[-1]
    settings = experiment(head, loss, **REGULARISED)
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "training")

    def interrupt(record: dict) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with simulated_recording() as recordings:
        with pytest.raises(KeyboardInterrupt):
            fit(settings, DATA, seed=0, on_epoch=interrupt, checkpoint=checkpoint)
        torch.manual_seed(7)
        found = fit(settings, DATA, seed=0, checkpoint=checkpoint)
    assert len(recordings) == 2
    assert_same(found.model.state_dict(), launched(head, loss).model.state_dict())


def test_what_cannot_be_recorded_is_launched():
    refused = mock.Mock(side_effect=RuntimeError("operation not permitted when stream is capturing\nmore"))
    with simulated_recording() as recordings, mock.patch.object(device_steps, "record", refused):
        found = trained("mlp", {"type": "clip"})
    assert not recordings
    assert refused.call_count == 1
    assert_same(found.model.state_dict(), launched("mlp", {"type": "clip"}).model.state_dict())


def test_a_step_whose_rows_do_not_fit_in_memory_at_once_is_launched():
    settings = experiment("mlp", {"type": "clip"})
    state = start(settings, DATA, seed=0)
    state.part = {"cpu": 16}
    with simulated_recording() as recordings:
        for _ in range(device_steps.LAUNCHED + 2):
            device_steps.take_step(state, DATA.train, torch.arange(30), 1.0, settings.training)
    assert not recordings
    assert state.step == device_steps.LAUNCHED + 2


def test_the_cpu_records_nothing():
    assert not trained("mlp", {"type": "clip"}).device_steps

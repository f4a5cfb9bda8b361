"""Errors that say nothing of a trial's settings: such trials do not count, are repeated, and three end a study."""

import pytest
import torch
from optuna.trial import TrialState

from frozenalign.system.errors import UserError
from frozenalign.tuning import study as tuning
from frozenalign.tuning.faults import DEVICE, is_of_the_trial, kind_of_fault
from frozenalign.tuning.study import run_study
from frozenalign.tuning.trial_budget import counted_trials
from tests.unit.tuning.pretended import in_turn, kept, rates, states, with_study

State = TrialState
pytestmark = pytest.mark.usefixtures("hurried_databases", "hurried_watch")
NO_KERNEL = "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be"
LOST = "CUDA error: unknown error"


def fault(words: str = "mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)") -> RuntimeError:
    return RuntimeError(words)


@pytest.mark.parametrize(
    ("error", "is_its_own"),
    [
        (UserError("the loss became nan"), True),
        (ValueError("no such width"), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (torch.linalg.LinAlgError("linalg.cholesky: the input is not positive-definite"), True),
        (RuntimeError(NO_KERNEL), False),
        (torch.AcceleratorError("the launch timed out"), False),
        (NotImplementedError("The operator 'aten::x' is not currently implemented for the MPS device"), False),
        (fault(), False),
    ],
)
def test_a_trial_fails_by_what_follows_from_its_settings(error, is_its_own):
    assert is_of_the_trial(error) is is_its_own


def test_errors_of_a_device_are_of_one_kind_and_others_by_their_words():
    assert {kind_of_fault(RuntimeError(words)) for words in (NO_KERNEL, LOST, "cuDNN error: X")} == {DEVICE}
    assert kind_of_fault(torch.AcceleratorError("the launch timed out")) == DEVICE
    assert kind_of_fault(fault("shapes 3 and 4")) == kind_of_fault(fault("shapes 15 and 4"))
    assert kind_of_fault(fault("shapes 3 and 4")) != kind_of_fault(fault("sizes 3 and 4"))
    assert kind_of_fault(fault("relationship of jumps")) != DEVICE


def test_a_trial_that_ends_by_a_fault_does_not_count_and_the_study_has_its_budget(run, trained):
    asked = trained(in_turn([1.0], fault(), [2.0], fault(), fault()))
    study = run_study(with_study(run, trials=4), None)
    assert states(study) == [State.COMPLETE] * 4
    assert len(asked) == 7
    assert [trial.value for trial in counted_trials(study)] == [1.0, 2.0, 100.0, 100.0]


@pytest.mark.parametrize(
    "words", [(NO_KERNEL,) * 3, (NO_KERNEL, LOST, "HIP error: invalid device"), ("a 1", "a 2", "a 3")]
)
def test_three_like_faults_in_a_row_stop_the_study_and_are_repeated_by_the_next_call(run, trained, words):
    asked = trained(in_turn([1.0], *map(fault, words)))
    with pytest.raises(UserError, match=r"the last 3 trials were ended by .*; they do not count: mend") as caught:
        run_study(with_study(run, trials=9), None)
    assert words[-1].splitlines()[0] in str(caught.value)
    assert "\n" not in str(caught.value)
    tried = [experiment.training.learning_rate for experiment in asked]
    assert len(tried) == 4
    assert states(kept(run)) == [State.COMPLETE]
    trained(in_turn())
    study = run_study(with_study(run, trials=5), None)
    assert states(study) == [State.COMPLETE] * 5
    assert rates(study)[:4] == tried


def test_a_device_that_is_still_broken_stops_the_next_call_as_well_and_loses_no_parameters(run, trained):
    first = trained(in_turn(*[fault(NO_KERNEL)] * 3))
    second = []
    for asked in (first, second):
        with pytest.raises(UserError, match="the last 3 trials were ended by a device that fails"):
            run_study(run, None)
        if asked is first:
            second = trained(in_turn(*[fault(NO_KERNEL)] * 3))
    assert first == second
    trained(in_turn())
    assert rates(run_study(run, None)) == [experiment.training.learning_rate for experiment in first]


def test_different_faults_stop_a_study_only_once_they_are_many(run, trained):
    faults = [fault(word) for word in ("one", "another") * 5]
    asked = trained(in_turn(*faults))
    with pytest.raises(UserError, match="the last 10 trials were ended by errors that say nothing of their settings"):
        run_study(run, None)
    assert len(asked) == 10


def test_a_success_between_them_ends_a_row_of_faults(run, trained):
    trained(in_turn(fault(), fault(), [1.0], fault(), fault()))
    assert len(counted_trials(run_study(run, None))) == 3


def broken_device(worker: int, run, *further) -> None:
    """Replace a worker process by one whose device runs no kernel."""

    def fail(*arguments, **options) -> None:
        raise RuntimeError(NO_KERNEL)

    tuning.fit = fail
    tuning._worker_process(worker, run, *further)


def test_processes_of_a_job_stop_after_three_trials_on_a_broken_device(run, data, monkeypatch):
    monkeypatch.setattr(tuning, "_worker_process", broken_device)
    with pytest.raises(UserError, match="trials were ended by a device that fails, the last by: CUDA error: no kernel"):
        run_study(with_study(run, trials=50, n_jobs=2), data)
    assert counted_trials(kept(run)) == []
    assert len(kept(run).trials) <= 5

"""Trials that ended by an error that says nothing of their settings: not counted, repeated later, few in a row."""

import itertools
import re
from pathlib import Path

import optuna
import torch
from optuna.trial import FrozenTrial

from frozenalign.system.errors import UserError, is_out_of_memory, one_line
from frozenalign.system.locks import in_turn
from frozenalign.tuning.opening import StudyRun
from frozenalign.tuning.trial_budget import PATIENCE_SECONDS, REASON, REPEATS, counts, repeat

FAULT = "fault"
DEVICE = "device"
OF_DEVICES = re.compile(r"\b(CUDA|HIP|MPS|NVML|CUBLAS|CUDNN|cuBLAS|cuDNN|NCCL)")
ALIKE_BEFORE_STOPPING = 3
FAULTS_BEFORE_STOPPING = 10


def is_of_the_trial(error: Exception) -> bool:
    """Return whether an error follows from a trial's settings: refused, diverged, too large or without a solution."""
    is_refusal = isinstance(error, UserError | ValueError | torch.linalg.LinAlgError)
    return is_refusal or is_out_of_memory(error)


def kind_of_fault(error: Exception) -> str:
    """Return what two errors of one cause have in common: the device, or the first line without its numbers."""
    if isinstance(error, torch.AcceleratorError) or OF_DEVICES.search(str(error)):
        return DEVICE
    return f"{type(error).__name__}: {re.sub(r'[0-9]+', '#', one_line(str(error), 120))}"


def repeat_faulty(study: optuna.Study, queue: Path) -> None:
    """Put the parameters of trials that ended by a fault first in the queue, those of each once."""
    with in_turn(queue, PATIENCE_SECONDS):
        for trial in _faulty(study.get_trials(deepcopy=False)):
            repeat(study, trial)


def refuse_faults(run: StudyRun, study: optuna.Study) -> None:
    """Stop a study of which the last trials to end all had the same fault, or many had any."""
    kinds, reason = _last_faults(study)
    if len(kinds) < ALIKE_BEFORE_STOPPING or (len(set(kinds)) > 1 and len(kinds) < FAULTS_BEFORE_STOPPING):
        return
    what = "a device that fails" if set(kinds) == {DEVICE} else "errors that say nothing of their settings"
    raise UserError(
        f"study {run.name!r}: the last {len(kinds)} trials were ended by {what}, the last by: {reason}; they do not "
        "count: mend the cause, or set another `device`, and run the same command again, which repeats them"
    )


def _last_faults(study: optuna.Study) -> tuple[list[str], str]:
    """Return the kinds of the faults of the last trials, by the time they ended, and the reason of the last one."""
    trials = study.get_trials(deepcopy=False)
    faulty = {trial.number for trial in _faulty(trials)}
    ended = [trial for trial in trials if trial.datetime_complete and (counts(trial) or FAULT in trial.user_attrs)]
    latest_first = sorted(ended, key=lambda trial: trial.datetime_complete, reverse=True)
    last = list(itertools.takewhile(lambda trial: trial.number in faulty, latest_first))
    return [trial.user_attrs[FAULT] for trial in last], last[0].user_attrs[REASON] if last else ""


def _faulty(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that ended by a fault and have not been repeated."""
    repeated = {trial.user_attrs.get(REPEATS) for trial in trials}
    return [trial for trial in trials if FAULT in trial.user_attrs and trial.number not in repeated]

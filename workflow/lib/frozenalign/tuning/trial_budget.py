"""The budget of a study: which trials count, which are still needed, and how interrupted ones are repeated."""

import contextlib
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from frozenalign.configuration.studies import Study
from frozenalign.system.errors import UserError
from frozenalign.system.locks import in_turn
from frozenalign.tuning.liveness import WORKER

logger = logging.getLogger(__name__)
NOT_COUNTED = "not_counted"
ABANDONED = "abandoned"
# Version 0.2.0 listed the numbers of abandoned trials in the study.
LISTED = "abandoned_trials"
REPEATS = "repeats"
REASON = "reason"
# A process that was stopped while it held the queue is passed over; the budget holds without the lock.
PATIENCE_SECONDS = 30.0


def counted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count towards the budget: completed, pruned, or failed because of their settings."""
    return [trial for trial in _valid_trials(study) if trial.state.is_finished()]


def _valid_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return all trials but surplus, abandoned and faulty ones."""
    trials = study.get_trials(deepcopy=False)
    listed = study.user_attrs.get(LISTED, [])
    return [trial for trial in trials if counts(trial) and trial.number not in listed]


def counts(trial: FrozenTrial) -> bool:
    """Return whether a trial is neither surplus nor abandoned nor faulty."""
    return NOT_COUNTED not in trial.user_attrs


def is_complete(settings: Study, study: optuna.Study) -> bool:
    """Return whether a study has all its trials, or has used up its seconds."""
    counted = counted_trials(study)
    spent = sum(trial.user_attrs.get("seconds", 0.0) for trial in counted)
    return len(counted) >= settings.trials or (settings.seconds is not None and spent >= settings.seconds)


def refuse_unfinished(settings: Study, study: optuna.Study) -> None:
    """Refuse a study that has not all its trials."""
    if not is_complete(settings, study):
        raise UserError(
            f"study {study.study_name!r} has {len(counted_trials(study))} of {settings.trials} trials: run its workers "
            "(tune_worker) to their end first"
        )


def next_trial(settings: Study, study: optuna.Study, mark: dict[str, Any], queue: Path) -> Trial | None:
    """Return a new trial, marked with its process, or None if others fill the budget should they all finish.

    queue: a lock file that is held meanwhile, since SQLite lets two processes take the same waiting trial.
    """
    with in_turn(queue, PATIENCE_SECONDS):
        valid = _valid_trials(study)
        is_waiting = any(trial.state == TrialState.WAITING for trial in valid)
        if len(valid) >= settings.trials and not is_waiting:
            return None
        trial = study.ask()
        trial.set_user_attr(WORKER, mark)
    # This alone holds the budget, also without the lock: a trial goes on if fewer than `trials` valid ones have lower
    # numbers. Numbers only grow, and what is no longer valid never is again: of all that finish, the one with the
    # highest number had the others before it.
    earlier = [other for other in _valid_trials(study) if other.number < trial.number]
    if len(earlier) < settings.trials:
        return trial
    trial.set_user_attr(NOT_COUNTED, "surplus")
    study.tell(trial, state=TrialState.FAIL)
    return None


def requeue_abandoned(study: optuna.Study, queue: Path, numbers: Collection[int]) -> None:
    """Close running trials whose processes are dead, and put their parameters first in the queue."""
    if not numbers:
        return
    with in_turn(queue, PATIENCE_SECONDS):
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            if trial.number in numbers:
                # A process that was only stopped may finish its trial meanwhile.
                with contextlib.suppress(UpdateFinishedTrialError):
                    _requeue(study, trial)


def _requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    # First: whatever becomes of the trial now, it does not count.
    Trial(study, trial._trial_id).set_user_attr(NOT_COUNTED, ABANDONED)
    repeat(study, trial)
    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    logger.info("trial %d was interrupted: its parameters are tried again", trial.number)


def repeat(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put the parameters of a trial first in the queue, once."""
    # A trial that repeats another may not have drawn its parameters yet.
    parameters = trial.system_attrs.get("fixed_params", {}) | trial.params
    repeated = [other.user_attrs.get(REPEATS) for other in study.get_trials(deepcopy=False)]
    # An earlier, interrupted call may have queued them already.
    if parameters and trial.number not in repeated:
        study.enqueue_trial(parameters, user_attrs={REPEATS: trial.number})

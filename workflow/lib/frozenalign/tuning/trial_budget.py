"""Which trials of a study count, which of them are still to be asked for, and what becomes of interrupted ones."""

import logging
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from frozenalign.configuration.studies import Study
from frozenalign.system.locks import in_turn

logger = logging.getLogger(__name__)
NOT_COUNTED = "not_counted"
ABANDONED = "abandoned_trials"
REPEATS = "repeats"
WORKER = "worker"


def counted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count towards the budget: completed, pruned, or failed for a reason of their own."""
    abandoned = study.user_attrs.get(ABANDONED, [])
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and NOT_COUNTED not in trial.user_attrs and trial.number not in abandoned
    ]


def is_complete(settings: Study, study: optuna.Study) -> bool:
    """Say whether a study has its trials, or has used up its seconds."""
    counted = counted_trials(study)
    spent = sum(trial.user_attrs.get("seconds", 0.0) for trial in counted)
    return len(counted) >= settings.trials or (settings.seconds is not None and spent >= settings.seconds)


def open_places(settings: Study, study: optuna.Study) -> int:
    """Return how many trials a study still wants to see finished, those under way included."""
    return 0 if is_complete(settings, study) else settings.trials - len(counted_trials(study))


def next_trial(settings: Study, study: optuna.Study, worker: int, queue: Path) -> Trial | None:
    """Ask for a trial and sign it for a worker; return None where those before it fill the budget.

    queue: lock file that is held while a trial changes hands, for SQLite lets two processes take one waiting trial.
    """
    with in_turn(queue):
        trial = study.ask()
        trial.set_user_attr(WORKER, worker)
    if not _is_surplus(study, trial.number, settings.trials):
        return trial
    trial.set_user_attr(NOT_COUNTED, "surplus")
    study.tell(trial, state=TrialState.FAIL)
    return None


def _is_surplus(study: optuna.Study, number: int, budget: int) -> bool:
    """Say whether the trials asked for before this one fill the budget if they all finish."""
    lower = [trial for trial in study.get_trials(deepcopy=False) if trial.number < number]
    abandoned = study.user_attrs.get(ABANDONED, [])
    places = [trial for trial in lower if NOT_COUNTED not in trial.user_attrs and trial.number not in abandoned]
    return sum(trial.state != TrialState.WAITING for trial in places) >= budget


def requeue_abandoned(study: optuna.Study, queue: Path, worker: int | None = None) -> None:
    """Close running trials of a dead worker, or of all, and put their parameters first in the queue.

    A trial without a worker was taken by one that died before it could sign; nobody else closes it.
    """
    with in_turn(queue):
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            if worker is None or trial.user_attrs.get(WORKER, worker) == worker:
                study.set_user_attr(ABANDONED, [*study.user_attrs.get(ABANDONED, []), trial.number])
                _enqueue_again(study, trial)
                study.tell(trial.number, state=TrialState.FAIL)
                logger.info("trial %d was interrupted; its parameters are tried again", trial.number)


def _enqueue_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a trial's parameters once, though this may itself have been interrupted before."""
    parameters = _parameters(trial)
    if parameters and trial.number not in [other.user_attrs.get(REPEATS) for other in study.get_trials(deepcopy=False)]:
        study.enqueue_trial(parameters, user_attrs={REPEATS: trial.number})


def _parameters(trial: FrozenTrial) -> dict[str, Any]:
    """Return the parameters that a trial has or, where it repeats another, was still to be given."""
    return trial.system_attrs.get("fixed_params", {}) | trial.params

"""The budget of a study: which trials count, which are still needed, and how interrupted ones are repeated."""

import logging
from pathlib import Path

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
    return [trial for trial in _valid_trials(study) if trial.state.is_finished()]


def _valid_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return all trials but surplus and abandoned ones."""
    trials = study.get_trials(deepcopy=False)
    abandoned = study.user_attrs.get(ABANDONED, [])
    return [trial for trial in trials if NOT_COUNTED not in trial.user_attrs and trial.number not in abandoned]


def is_complete(settings: Study, study: optuna.Study) -> bool:
    """Return whether a study has all its trials, or has used up its seconds."""
    counted = counted_trials(study)
    spent = sum(trial.user_attrs.get("seconds", 0.0) for trial in counted)
    return len(counted) >= settings.trials or (settings.seconds is not None and spent >= settings.seconds)


def open_places(settings: Study, study: optuna.Study) -> int:
    """Return how many trials of a study are still to be finished, those under way included."""
    return 0 if is_complete(settings, study) else settings.trials - len(counted_trials(study))


def next_trial(settings: Study, study: optuna.Study, worker: int, queue: Path) -> Trial | None:
    """Return a new trial, marked with its worker, or None if earlier trials fill the budget should they all finish.

    queue: a lock file that is held meanwhile, since SQLite lets two processes take the same waiting trial.
    """
    with in_turn(queue):
        trial = study.ask()
        trial.set_user_attr(WORKER, worker)
    earlier = [other for other in _valid_trials(study) if other.number < trial.number]
    if sum(other.state != TrialState.WAITING for other in earlier) < settings.trials:
        return trial
    trial.set_user_attr(NOT_COUNTED, "surplus")
    study.tell(trial, state=TrialState.FAIL)
    return None


def requeue_abandoned(study: optuna.Study, queue: Path, worker: int | None = None) -> None:
    """Close the running trials of a dead worker, or of all, and put their parameters first in the queue.

    A running trial that is not marked with a worker belongs to one that died before it could mark it.
    """
    with in_turn(queue):
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            if worker is None or trial.user_attrs.get(WORKER, worker) == worker:
                study.set_user_attr(ABANDONED, [*study.user_attrs.get(ABANDONED, []), trial.number])
                # A trial that repeats another may not have drawn its parameters yet.
                parameters = trial.system_attrs.get("fixed_params", {}) | trial.params
                repeated = [other.user_attrs.get(REPEATS) for other in study.get_trials(deepcopy=False)]
                # An earlier, interrupted call may have queued them already.
                if parameters and trial.number not in repeated:
                    study.enqueue_trial(parameters, user_attrs={REPEATS: trial.number})
                study.tell(trial.number, state=TrialState.FAIL)
                logger.info("trial %d was interrupted: its parameters are tried again", trial.number)

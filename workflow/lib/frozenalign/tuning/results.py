"""The results of a study: its trials as a table, its best experiment, the importance of its parameters."""

from typing import Any

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from frozenalign.system.errors import UserError
from frozenalign.tuning.trial_budget import REASON, counted_trials


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """Return one row for each trial that counts: number, state, value, epochs, seconds, reason and its parameters.

    Whole numbers stay such in columns where some trials have none.
    """
    rows = [
        {
            "number": trial.number,
            "state": trial.state.name,
            "value": trial.value,
            **{name: trial.user_attrs.get(name) for name in ("epochs", "seconds", REASON)},
            **trial.params,
        }
        for trial in counted_trials(study)
    ]
    return pd.DataFrame(rows, dtype=object)


def best_trial(study: optuna.Study) -> FrozenTrial:
    """Return the completed trial with the highest value among those that count."""
    complete = _complete_trials(study)
    if not complete:
        raise UserError(f"study {study.study_name!r} has no completed trial: raise `trials`, or set pruner.type: none")
    return max(complete, key=lambda trial: trial.value)


def best_experiment(study: optuna.Study, monitor: str) -> dict[str, Any]:
    """Return the best completed trial's experiment as the content of an experiment file; monitor: what values are."""
    best, complete = best_trial(study), _complete_trials(study)
    described = f"Best of {len(counted_trials(study))} trials of the study {study.study_name} (trial {best.number})."
    if len(complete) > 1 and len({trial.value for trial in complete}) == 1:
        described += f" Warning: every trial has the validation {monitor} {best.value:.1f}, so that none was chosen."
    return best.user_attrs["experiment"] | {"description": described}


def importances(study: optuna.Study) -> dict[str, float]:
    """Return each parameter's share of the differences between trials (PED-ANOVA); empty where trials are too few."""
    if len({trial.value for trial in _complete_trials(study)}) < 2:
        return {}
    try:
        return optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError):
        return {}


def _complete_trials(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in counted_trials(study) if trial.state == TrialState.COMPLETE]

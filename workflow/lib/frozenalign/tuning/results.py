"""The results of a study: its trials as a table, its best experiment, the importance of its parameters."""

from typing import Any

import optuna
import pandas as pd
from optuna.trial import TrialState

from frozenalign.system.errors import UserError
from frozenalign.tuning.study import REASON
from frozenalign.tuning.trial_budget import counted_trials


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """Return one row for each trial that counts: number, state, value, epochs, seconds, reason and its parameters."""
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
    return pd.DataFrame(rows)


def best_experiment(study: optuna.Study) -> dict[str, Any]:
    """Return the best completed trial's experiment as the content of an experiment file."""
    complete = [trial for trial in counted_trials(study) if trial.state == TrialState.COMPLETE]
    if not complete:
        raise UserError(f"study {study.study_name!r} has no completed trial: raise `trials`, or set pruner.type: none")
    best = max(complete, key=lambda trial: trial.value)
    described = f"Best of {len(counted_trials(study))} trials of the study {study.study_name} (trial {best.number})."
    if len(complete) > 1 and len({trial.value for trial in complete}) == 1:
        described += f" Warning: every trial has the validation RSUM {best.value:.1f}, so that none was chosen."
    return best.user_attrs["experiment"] | {"description": described}


def importances(study: optuna.Study) -> dict[str, float]:
    """Return each parameter's share of the differences between trials (PED-ANOVA); empty where trials are too few."""
    complete = [trial for trial in counted_trials(study) if trial.state == TrialState.COMPLETE]
    if len({trial.value for trial in complete}) < 2:
        return {}
    try:
        return optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError):
        return {}

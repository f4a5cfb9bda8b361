"""Studies whose trainings are pretended: their file, their outcomes in turn, and what became of their trials."""

import dataclasses
from collections.abc import Callable, Iterator

import optuna
from optuna.trial import TrialState

from frozenalign.configuration.experiments import Experiment
from frozenalign.tuning.opening import StudyRun
from frozenalign.tuning.trial_budget import counted_trials
from tests.small_training import study_text

STUDY = study_text(3)
Training = Callable[[Experiment], list[float]]


def with_study(run: StudyRun, **changes) -> StudyRun:
    return dataclasses.replace(run, study=dataclasses.replace(run.study, **changes))


def rates(study: optuna.Study) -> list[float]:
    """Return the learning rate of every trial that counts."""
    return [trial.params["training.learning_rate"] for trial in counted_trials(study)]


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in counted_trials(study)]


def kept(run: StudyRun) -> optuna.Study:
    """Open what a run left behind, as another process would."""
    return optuna.load_study(study_name=run.name, storage=run.store.open())


def in_turn(*outcomes: list[float] | BaseException) -> Training:
    """Return a training that ends one way after the other, and with RSUM 100 after the last."""
    turns: Iterator = iter(outcomes)

    def training(experiment: Experiment) -> list[float]:
        outcome = next(turns, [100.0])
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return training

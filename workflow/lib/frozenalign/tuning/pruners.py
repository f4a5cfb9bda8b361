"""Which trials are given up: the pruners that a study's file names, and successive halving without waiting."""

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

from frozenalign.tuning.trial_budget import counts

FACTOR = 3
# Proposals get better in the course of a study: among all before them nearly all late ones would go on.
COMPARED = 15
# How a head ends does not show before it has seen about so many pairs, however few of them the data have.
PAIRS_BEFORE_LOOK = 20_000
HALVING_DEFAULTS = {"keep": 40, "startup_trials": 0}
OTHER_DEFAULTS = {"keep": 60, "startup_trials": 5, "warmup_epochs": 3}


class SuccessiveHalving(BasePruner):
    """Looks at a trial after its first epochs and after every threefold number, and keeps the best share.

    A trial is compared with the last fifteen others that have reached that epoch, running and pruned ones included, and
    waits for none. All trials have the same schedule, so that the same epoch is the same point of it. keep: percentage
    that goes on. startup_trials: others that must have reached the epoch. first_epoch: epochs before the first look.
    Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning, which compares with all.
    """

    def __init__(self, keep: float, startup_trials: int, first_epoch: int) -> None:
        self.keep, self.startup_trials, self.first_epoch = keep, startup_trials, max(1, first_epoch)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether a trial is given up after the epoch that it reported last."""
        epoch = trial.last_step
        if epoch is None or not self.is_looked_at(epoch):
            return False
        others = [
            other.intermediate_values[epoch]
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and counts(other) and epoch in other.intermediate_values
        ]
        if len(others) < self.startup_trials:
            return False
        others = others[-COMPARED:]
        own = trial.intermediate_values[epoch]
        # Of equal trials none is given up: at the start of a study all may be alike.
        return sum(value > own for value in others) >= math.ceil((len(others) + 1) * self.keep / 100)

    def is_looked_at(self, epoch: int) -> bool:
        """Return whether an epoch is the first one times a power of three."""
        at = self.first_epoch
        while at < epoch:
            at *= FACTOR
        return at == epoch


def build_pruner(settings: Mapping[str, Any], pairs: int = PAIRS_BEFORE_LOOK) -> BasePruner:
    """Return the pruner that a study's `pruner` section describes, by default with the numbers of its type.

    pairs: those that a trial trains on in an epoch.
    """
    kind = settings["type"]
    halving_defaults = HALVING_DEFAULTS | {"warmup_epochs": math.ceil(PAIRS_BEFORE_LOOK / pairs)}
    given = (halving_defaults if kind == "halving" else OTHER_DEFAULTS) | dict(settings)
    before = given["startup_trials"], given["warmup_epochs"]
    if kind == "none":
        return optuna.pruners.NopPruner()
    if kind == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=max(1, given["warmup_epochs"]))
    if kind == "median":
        return optuna.pruners.MedianPruner(*before)
    if kind == "percentile":
        return optuna.pruners.PercentilePruner(given["keep"], *before)
    return SuccessiveHalving(given["keep"], *before)

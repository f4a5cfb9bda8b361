"""Successive halving that waits for no trial, held against a plain count over all trials."""

import optuna
import pytest
from optuna.trial import TrialState

from frozenalign.tuning.pruners import COMPARED, SuccessiveHalving, build_pruner
from frozenalign.tuning.trial_budget import ABANDONED, NOT_COUNTED

optuna.logging.set_verbosity(optuna.logging.WARNING)


def halving(keep: float = 50, startup_trials: int = 0, first_epoch: int = 1) -> optuna.Study:
    pruner = SuccessiveHalving(keep, startup_trials, first_epoch)
    return optuna.create_study(direction="maximize", pruner=pruner)


def gives_up(study: optuna.Study, *curve: float) -> int | None:
    """Report a new trial epoch by epoch, and return the epoch after which it is given up, if any."""
    trial = study.ask()
    for epoch, value in enumerate(curve, 1):
        trial.report(value, epoch)
        if trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return epoch
    study.tell(trial, curve[-1])
    return None


def test_a_trial_goes_on_if_it_is_among_the_best_share_of_the_last_that_reached_the_epoch(rng):
    keep, reached, study = 40, [], halving(40)
    for value in rng.permutation(40).tolist():
        compared = [*reached[-COMPARED:], value]
        is_kept = sorted(compared, reverse=True).index(value) < keep / 100 * len(compared)
        assert gives_up(study, float(value)) == (None if is_kept else 1)
        reached.append(value)


def test_of_late_proposals_that_are_all_better_than_the_first_ones_only_a_share_goes_on(rng):
    study = halving(keep=40)
    for value in rng.permutation(20).tolist():
        gives_up(study, float(value))
    late = [gives_up(study, 100.0 + value) for value in rng.permutation(60).tolist()]
    assert 0.3 < late[COMPARED:].count(None) / len(late[COMPARED:]) < 0.5


def test_it_looks_after_the_first_epochs_and_every_threefold_number():
    assert [epoch for epoch in range(1, 70) if halving().pruner.is_looked_at(epoch)] == [1, 3, 9, 27]
    assert [epoch for epoch in range(1, 70) if halving(first_epoch=2).pruner.is_looked_at(epoch)] == [2, 6, 18, 54]
    assert halving(first_epoch=0).pruner.is_looked_at(1)


def test_a_trial_that_falls_behind_later_is_given_up_at_the_next_look():
    study = halving(keep=50)
    assert gives_up(study, *[9.0] * 16) is None
    assert gives_up(study, 10.0, 8.0, 8.0, 8.0, 8.0) == 3


def test_equal_trials_all_go_on():
    study = halving(keep=10)
    assert [gives_up(study, 5.0) for _ in range(6)] == [None] * 6


def test_the_first_trials_are_not_given_up():
    study = halving(keep=20, startup_trials=3)
    assert [gives_up(study, value) for value in (9.0, 8.0, 7.0, 6.0)] == [None, None, None, 1]


def test_running_trials_take_part_and_abandoned_ones_do_not():
    study = halving(keep=40)
    running = study.ask()
    running.report(9.0, 1)
    assert gives_up(study, 8.0) == 1
    running.set_user_attr(NOT_COUNTED, ABANDONED)
    assert gives_up(study, 8.5) is None


@pytest.mark.parametrize(("pairs", "first"), [(500_000, 1), (20_000, 1), (19_999, 2), (7_500, 3), (100, 200)])
def test_the_first_look_of_few_pairs_comes_later(pairs, first):
    assert build_pruner({"type": "halving"}, pairs).first_epoch == first
    assert build_pruner({"type": "halving", "warmup_epochs": 1}, pairs).first_epoch == 1


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"type": "halving"}, {"keep": 40, "startup_trials": 0, "first_epoch": 1}),
        ({"type": "halving", "keep": 50, "warmup_epochs": 2}, {"keep": 50, "startup_trials": 0, "first_epoch": 2}),
        ({"type": "percentile"}, {"_percentile": 60, "_n_startup_trials": 5, "_n_warmup_steps": 3}),
        ({"type": "median", "warmup_epochs": 1}, {"_n_startup_trials": 5, "_n_warmup_steps": 1}),
    ],
)
def test_what_a_file_leaves_out_follows_the_type(settings, found):
    assert found.items() <= vars(build_pruner(settings)).items()

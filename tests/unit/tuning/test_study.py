"""Studies: an exact budget of counted trials through interruptions, failures and dead workers, judged by validation."""

import dataclasses
import itertools
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from frozenalign.configuration.experiments import Experiment, experiment_from
from frozenalign.configuration.studies import load_study
from frozenalign.evaluation.projections import project_standardized
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.errors import UserError
from frozenalign.training.data import TrainingData
from frozenalign.training.fit import fit
from frozenalign.tuning import liveness, opening
from frozenalign.tuning import study as tuning
from frozenalign.tuning.opening import StudyRun
from frozenalign.tuning.study import run_study
from frozenalign.tuning.trial_budget import counted_trials, is_complete, requeue_abandoned
from tests.simulated_device import MPS, simulated_device
from tests.unit.tuning.pretended import STUDY, in_turn, kept, rates, states, with_study

State = TrialState
pytestmark = pytest.mark.usefixtures("hurried_databases", "hurried_watch")


class Killed(BaseException):
    """Ends a run as a kill does: no code of the study catches it."""


def learning_rate(experiment: Experiment) -> float:
    return experiment.training.learning_rate


def running(study: optuna.Study) -> list[int]:
    return [trial.number for trial in study.get_trials(states=(State.RUNNING,))]


def test_a_study_has_exactly_its_budget_of_trials(run, trained):
    asked = trained(lambda experiment: [1.0, learning_rate(experiment), 2.0])
    study = run_study(run, None)
    assert states(study) == [State.COMPLETE] * 3
    assert rates(study) == [learning_rate(experiment) for experiment in asked]
    assert len(set(rates(study))) == 3


def test_a_study_begins_no_trial_once_its_seconds_are_spent(run, trained, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: next(clock))
    trained(lambda experiment: [1.0])
    limited = with_study(run, trials=9, seconds=3.0)
    assert len(counted_trials(run_study(limited, None))) == 3
    assert len(counted_trials(run_study(limited, None))) == 3


def test_the_objective_is_the_best_validation_rsum_of_the_epochs(run, trained):
    trained(in_turn([3.0, 8.0, 5.0], [9.0, 1.0], [2.0]))
    study = run_study(with_study(run, trials=3), None)
    assert [trial.value for trial in study.trials] == [8.0, 9.0, 2.0]
    assert study.best_trial.number == 1
    assert study.trials[0].intermediate_values == {1: 3.0, 2: 8.0, 3: 8.0}


def test_the_start_is_no_epoch_of_a_trial_so_that_harmful_trials_differ(run, trained):
    trained(in_turn([40.0, 30.0], [20.0], [60.0]))
    study = run_study(with_study(run, trials=3), None)
    assert [trial.value for trial in study.trials] == [40.0, 20.0, 60.0]
    assert all(0 not in trial.intermediate_values for trial in study.trials)


def monitoring(run: StudyRun, monitor: str, **changes) -> StudyRun:
    base = run.study.base | {"training": run.study.base["training"] | {"monitor": monitor}}
    return with_study(run, base=base, **changes)


def test_the_objective_is_what_training_monitors(run, trained, caplog):
    caplog.set_level(logging.INFO)
    trained(in_turn([30.0, 10.0, 20.0], [25.0]))
    study = run_study(monitoring(run, "t2i R@1", trials=2), None)
    assert [trial.value for trial in study.trials] == [90.0, 75.0]
    assert study.trials[0].intermediate_values == {1: 70.0, 2: 90.0, 3: 90.0}
    assert "trial 0: t2i R@1 90.0 in" in caplog.text


def test_the_pruner_compares_what_training_monitors(run, trained):
    pruner = {"type": "median", "startup_trials": 2, "warmup_epochs": 0}
    trained(in_turn([10.0], [11.0], [12.0, 12.0]))
    study = run_study(monitoring(run, "i2t R@1", trials=3, pruner=pruner), None)
    assert states(study) == [State.COMPLETE, State.COMPLETE, State.PRUNED]


def test_trials_of_a_version_that_counted_the_start_are_not_mixed_with_new_ones(run, trained):
    trained(in_turn())
    study = run_study(with_study(run, trials=1), None)
    study._storage.set_study_user_attr(study._study_id, "objective", opening.OLD_OBJECTIVE)
    with pytest.raises(UserError, match="judged by RSUM of all epochs, the start among them, and now it is RSUM of"):
        run_study(run, None)


def test_a_trial_keeps_the_experiment_it_trained(run, trained):
    asked = trained(in_turn())
    study = run_study(with_study(run, trials=2), None)
    found = [experiment_from(trial.user_attrs["experiment"], "trial") for trial in study.trials]
    assert found == asked


def test_a_finished_study_trains_nothing_more(run, trained):
    trained(in_turn())
    first = rates(run_study(run, None))
    asked = trained(in_turn())
    assert rates(run_study(run, None)) == first
    assert asked == []


def test_a_larger_budget_goes_on_from_the_trials_there_are(run, trained):
    asked = trained(in_turn())
    first = rates(run_study(with_study(run, trials=2), None))
    study = run_study(with_study(run, trials=6), None)
    assert rates(study)[:2] == first
    assert len(set(rates(study))) == len(asked) == 6


@pytest.mark.parametrize(("end", "finished"), [(KeyboardInterrupt, 0), (KeyboardInterrupt, 2), (Killed, 1)])
def test_an_interrupted_study_goes_on_and_tries_the_interrupted_parameters_again_first(run, trained, end, finished):
    asked = trained(in_turn(*[[1.0 + i] for i in range(finished)], end()))
    with pytest.raises(end):
        run_study(run, None)
    assert len(counted_trials(kept(run))) == finished
    interrupted = asked.pop()
    before = len(asked)
    study = run_study(run, None)
    assert asked[before] == interrupted
    assert rates(study) == [learning_rate(experiment) for experiment in asked]
    assert len(set(rates(study))) == 3
    assert [trial.value for trial in counted_trials(study)][:finished] == [1.0 + i for i in range(finished)]


def test_an_interrupted_study_says_where_it_stands(run, trained, caplog):
    trained(in_turn([1.0], [2.0], KeyboardInterrupt()))
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        run_study(run, None)
    assert "interrupted: 2 of 3 trials are finished; run the same command to go on" in caplog.text


def test_the_parameters_of_a_repeat_that_is_interrupted_before_it_begins_are_not_lost(run, trained):
    asked = trained(in_turn(Killed()))
    with pytest.raises(Killed):
        run_study(run, None)
    study = kept(run)
    for _ in range(2):
        requeue_abandoned(study, run.queue, running(study))
        study.ask()
    run_study(run, None)
    assert len({learning_rate(experiment) for experiment in asked}) == 3
    assert asked[0] in asked[1:]


def test_a_queueing_that_was_interrupted_queues_the_parameters_once(run, trained, monkeypatch):
    asked = trained(in_turn(Killed()))
    with pytest.raises(Killed):
        run_study(run, None)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(optuna.Study, "tell", lambda *_, **__: (_ for _ in ()).throw(Killed()))
        requeue_abandoned(kept(run), run.queue, running(kept(run)))
    study = run_study(run, None)
    assert len(set(rates(study))) == 3
    assert asked[1] == asked[0]


def test_a_trial_that_a_dead_process_left_running_is_closed(run, trained):
    trained(in_turn([1.0], Killed()))
    with pytest.raises(Killed):
        run_study(run, None)
    assert kept(run).trials[1].state == State.RUNNING
    study = run_study(run, None)
    assert study.trials[1].state == State.FAIL
    assert states(study) == [State.COMPLETE] * 3


def test_a_trial_whose_process_died_before_it_left_its_mark_is_soon_found(run, monkeypatch):
    monkeypatch.setattr(liveness, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(liveness, "LOOKS", 1000)
    study = tuning.create_study(run)
    marked, unmarked = study.ask(), study.ask()
    marked.set_user_attr(liveness.WORKER, {"host": "elsewhere", "lock": "held"})
    watch = liveness.Watch(run.folder)
    found = [watch.dead(study) for _ in range(liveness.LOOKS_WITHOUT_MARK + 1)]
    assert found == [[]] * liveness.LOOKS_WITHOUT_MARK + [[unmarked.number]]


def test_interruptions_at_every_other_trial_lose_none_and_count_none_twice(run, trained):
    finished = []

    def training(experiment: Experiment) -> list[float]:
        training.calls += 1
        if training.calls % 2:
            raise KeyboardInterrupt if training.calls % 4 == 1 else Killed
        finished.append(learning_rate(experiment))
        return [1.0]

    training.calls = 0
    trained(training)
    for _ in range(3):
        with pytest.raises((KeyboardInterrupt, Killed)):
            run_study(run, None)
    assert len(finished) == 2
    study = run_study(run, None)
    assert rates(study) == finished
    assert len(set(finished)) == 3


def test_proposals_after_an_interruption_do_not_repeat_the_first_ones(run, trained):
    trained(in_turn())
    first = rates(run_study(with_study(run, trials=3), None))
    study = run_study(with_study(run, trials=6), None)
    assert not set(first) & set(rates(study)[3:])


def test_a_pruned_trial_stops_at_once_and_counts(run, trained):
    pruner = {"type": "median", "startup_trials": 2, "warmup_epochs": 0}
    reached = []

    def values(level: float) -> Iterator[float]:
        for epoch in range(4):
            reached.append((level, epoch))
            yield level + epoch

    trained(in_turn(values(10.0), values(20.0), values(1.0), values(30.0)))
    study = run_study(with_study(run, trials=4, pruner=pruner), None)
    assert states(study) == [State.COMPLETE, State.COMPLETE, State.PRUNED, State.COMPLETE]
    assert [epoch for level, epoch in reached if level == 1.0] == [0]
    assert study.trials[2].value == 1.0
    assert study.trials[2].user_attrs["epochs"] == 1


def test_the_first_look_at_a_trial_follows_the_pairs_of_the_split(study_file, split_dir, tmp_path):
    asked = opening.asked_study(study_file, None, tmp_path, split_dir, "small")
    study = opening.open_study(with_study(asked, pruner={"type": "halving"}), worker=0)
    with np.load(split_dir / "train_tuning.npz") as split:
        pairs = len(split["text_rows"])
    assert (study.pruner.first_epoch - 1) * pairs < 20_000 <= study.pruner.first_epoch * pairs


def test_every_trial_may_run_its_warmup_epochs(run, trained):
    pruner = {"type": "median", "startup_trials": 1, "warmup_epochs": 2}
    trained(in_turn([10.0] * 5, [1.0] * 5))
    study = run_study(with_study(run, trials=2, pruner=pruner), None)
    assert states(study) == [State.COMPLETE, State.PRUNED]
    assert study.trials[1].user_attrs["epochs"] == 2


def test_a_trial_is_not_given_up_after_its_last_epoch(run, trained):
    pruner = {"type": "halving", "keep": 10, "startup_trials": 1, "warmup_epochs": 3}
    trained(in_turn([10.0] * 3, [1.0] * 3))
    study = run_study(with_study(run, trials=2, pruner=pruner), None)
    assert run.study.base["training"]["num_epochs"] == 3
    assert states(study) == [State.COMPLETE] * 2


def test_the_percentile_pruner_gives_up_only_what_lies_below_the_kept_share(run, trained):
    pruner = {"type": "percentile", "keep": 75, "startup_trials": 4, "warmup_epochs": 0}
    trained(in_turn(*([level] * 3 for level in (10.0, 20.0, 30.0, 40.0, 18.0, 17.0))))
    study = run_study(with_study(run, trials=6, pruner=pruner), None)
    assert states(study) == [State.COMPLETE] * 5 + [State.PRUNED]


@pytest.mark.parametrize(
    ("pruner", "sampler", "found"),
    [
        ("halving", "tpe", ["SuccessiveHalving", "TPESampler"]),
        ("percentile", "tpe", ["PercentilePruner", "TPESampler"]),
        ("median", "tpe", ["MedianPruner", "TPESampler"]),
        ("hyperband", "tpe", ["HyperbandPruner", "TPESampler"]),
        ("none", "random", ["NopPruner", "RandomSampler"]),
    ],
)
def test_every_pruner_and_sampler_of_the_schema_runs(run, trained, pruner, sampler, found):
    trained(lambda experiment: [1.0, 2.0, 1e3 * learning_rate(experiment)])
    changes = {
        "sampler": {"type": sampler, "seed": 1, "startup_trials": 1},
        "pruner": {"type": pruner, "keep": 75, "startup_trials": 1, "warmup_epochs": 1},
    }
    study = run_study(with_study(run, trials=3, **changes), None)
    assert len(counted_trials(study)) == 3
    assert [type(part).__name__ for part in (study.pruner, study.sampler)] == found


FAILURES = {
    "the loss became nan": UserError("the loss became nan"),
    "out of memory": torch.cuda.OutOfMemoryError("out of memory\nTried to allocate"),
    "no such width": ValueError("no such width"),
    "the matrix is singular": torch.linalg.LinAlgError("the matrix is singular"),
}


def test_a_failed_trial_is_recorded_with_its_reason_and_the_study_goes_on(run, trained):
    trained(in_turn([1.0], *FAILURES.values(), [3.0]))
    study = run_study(with_study(run, trials=len(FAILURES) + 2), None)
    assert states(study) == [State.COMPLETE, *[State.FAIL] * len(FAILURES), State.COMPLETE]
    assert [trial.user_attrs.get("reason") for trial in study.trials] == [None, *FAILURES, None]


def test_the_reason_of_a_failure_without_words_is_its_name(run, trained):
    trained(in_turn([1.0], ValueError()))
    study = run_study(with_study(run, trials=2), None)
    assert study.trials[1].user_attrs["reason"] == "ValueError"


def test_an_experiment_that_cannot_be_trained_is_a_failed_trial(run, trained, study_file):
    choices = "  - {key: model.type, type: categorical, choices: [mlp, blip]}\n"
    study_file.write_text(STUDY.replace("trials: 3", "trials: 8") + choices)
    asked = trained(in_turn())
    study = run_study(dataclasses.replace(run, study=load_study(study_file)), None)
    failed = [trial for trial in study.trials if trial.state == State.FAIL]
    assert len(asked) + len(failed) == 8
    assert {trial.params["model.type"] for trial in failed} == {"blip"}
    assert all("'blip' keeps momentum copies" in trial.user_attrs["reason"] for trial in failed)


@pytest.mark.parametrize(("trials", "tried"), [(2, 2), (50, 3)])
def test_a_study_whose_every_trial_fails_stops_with_the_reason(run, trained, monkeypatch, trials, tried):
    monkeypatch.setattr(opening, "FAILURES_BEFORE_STOPPING", 3)

    def training(experiment: Experiment) -> list[float]:
        raise UserError("the loss became nan")

    asked = trained(training)
    with pytest.raises(UserError, match=f"all {tried} trials failed; the last reason: the loss became nan") as caught:
        run_study(with_study(run, trials=trials), None)
    assert f"delete {run.folder}" in str(caught.value)
    assert len(asked) == tried


def test_failures_do_not_stop_a_study_that_has_one_success(run, trained, monkeypatch):
    monkeypatch.setattr(opening, "FAILURES_BEFORE_STOPPING", 3)
    trained(in_turn([1.0], *[ValueError("bad luck")] * 4))
    assert states(run_study(with_study(run, trials=5), None)) == [State.COMPLETE, *[State.FAIL] * 4]


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("low: 1e-4", "low: 1e-3", "training.learning_rate had low 0.0001 and has low 0.001"),
        ("output_dim: 8", "output_dim: 16", "base.model.output_dim was 8 and is 16"),
        ("key: training.learning_rate", "key: training.weight_decay", "learning_rate was removed; .*decay is new"),
    ],
)
def test_a_changed_search_space_is_refused_with_what_changed_and_what_to_do(
    run, trained, study_file, old, new, changed
):
    trained(in_turn())
    run_study(with_study(run, trials=2), None)
    study_file.write_text(STUDY.replace(old, new))
    asked = trained(in_turn())
    with pytest.raises(UserError, match=changed) as caught:
        run_study(dataclasses.replace(run, study=load_study(study_file)), None)
    assert "'small'" in str(caught.value)
    assert "new name" in str(caught.value)
    assert f"delete {run.folder}" in str(caught.value)
    assert asked == []
    assert len(kept(run).trials) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda run: dataclasses.replace(run, inputs_hash="another hash"),
        lambda run: with_study(run, data="train"),
    ],
    ids=["other files", "other training rows"],
)
def test_trials_on_other_data_are_not_mixed_with_those_there_are(run, trained, change):
    trained(in_turn())
    run_study(with_study(run, trials=2), None)
    asked = trained(in_turn())
    with pytest.raises(UserError, match=r"do not fit any more: the split or the embeddings are others"):
        run_study(change(run), None)
    assert asked == []


def test_trials_that_an_earlier_version_listed_as_abandoned_do_not_count(run, trained):
    trained(in_turn())
    run_study(run, None).set_user_attr("abandoned_trials", [1])
    study = run_study(run, None)
    assert [trial.number for trial in counted_trials(study)] == [0, 2, 3]


@pytest.mark.parametrize(("workers", "file"), [(1, "study.db"), (2, "study.journal")])
def test_a_study_stays_in_the_file_it_began_in_however_many_workers_it_has(run, trained, workers, file):
    trained(in_turn())
    first = rates(run_study(with_study(run, workers=workers), None))
    study = run_study(with_study(run, workers=3 - workers), None)
    assert rates(study) == first
    assert [path.name for path in run.folder.glob("study.*") if path.suffix in (".db", ".journal")] == [file]


def test_another_storage_for_a_study_that_has_trials_is_refused(run, trained):
    trained(in_turn())
    run_study(run, None)
    with pytest.raises(UserError, match=r"has trials in .*study\.db, and its `storage` is another: take that key out"):
        run_study(with_study(run, storage="journal"), None)


def rsum(model: DualEncoder, data: TrainingData) -> float:
    """Return the RSUM of a head, ranks counted over the full validation matrix, ties against it."""
    projections = project_standardized(model, data.val)
    scores, owner = projections.texts @ projections.images.T, projections.text_image
    own = scores[torch.arange(len(owner)), owner]
    t2i = (scores >= own[:, None]).sum(1).numpy() - 1
    captions = (scores.T[owner] >= own[:, None]).sum(1).numpy() - 1
    i2t = np.array([captions[owner.numpy() == image].min() for image in range(len(projections.images))])
    return sum(100 * (ranks < k).mean() for ranks in (i2t, t2i) for k in (1, 5, 10))


def test_a_trial_is_judged_by_the_validation_pairs_alone(run, data):
    study = run_study(with_study(run, trials=2), data)
    for trial in counted_trials(study):
        experiment = experiment_from(trial.user_attrs["experiment"], "trial")
        trained = fit(experiment, data, seed=0)
        assert trained.best_value == pytest.approx(rsum(trained.model, data))
        assert trial.value == max(record["val"]["RSUM"] for record in trained.history[1:])


def killed_in_its_first_trial(worker: int, run: StudyRun, *further: Any) -> None:
    """Replace a worker process: the first dies while it trains, the others return the sum of the validation rows."""
    death = run.folder / "death"

    def die(*arguments: Any, **options: Any) -> None:
        death.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def sum_rows(
        experiment: Experiment, data: TrainingData, seed: int, canonical: Any, on_epoch: Callable[[dict], None]
    ):
        while not death.exists():
            time.sleep(0.01)
        time.sleep(2.5 * tuning.WATCH_SECONDS)
        on_epoch({"epoch": 1, "val": {"RSUM": data.val.texts.sum().item()}})

    tuning.fit = sum_rows if worker else die
    tuning._worker_process(worker, run, *further)


def test_the_data_of_a_device_that_shares_nothing_travel_on_the_cpu(run, data):
    """As on Apple's GPUs, of which no other process gets a tensor."""
    with simulated_device():
        study = run_study(with_study(run, trials=2, n_jobs=2), data.to(MPS))
    assert [trial.state for trial in study.trials] == [State.COMPLETE, State.COMPLETE]


def slow(worker: int, run: StudyRun, *further: Any) -> None:
    """Replace a worker process by one that takes its time."""

    def sleep(experiment: Experiment, data: TrainingData, seed: int, canonical: Any, on_epoch: Callable[[dict], None]):
        time.sleep(0.5)
        on_epoch({"epoch": 1, "val": {"RSUM": 1.0}})

    tuning.fit = sleep
    tuning._worker_process(worker, run, *further)


def test_while_its_processes_work_a_job_leaves_the_storage_alone(run, data, monkeypatch):
    asked = []
    monkeypatch.setattr(tuning, "_worker_process", slow)
    monkeypatch.setattr(tuning, "is_complete", lambda *study: asked.append(study) or is_complete(*study))
    assert states(run_study(with_study(run, trials=4, n_jobs=2), data)) == [State.COMPLETE] * 4
    # Before the processes, when they are there, and after the end of each.
    assert len(asked) <= 5


def test_two_processes_go_on_where_one_stopped_and_a_dead_one_is_replaced(run, data, trained, monkeypatch):
    trained(in_turn([1.0], Killed()))
    with pytest.raises(Killed):
        run_study(run, None)
    monkeypatch.setattr(tuning, "_worker_process", killed_in_its_first_trial)
    study = run_study(with_study(run, trials=4, n_jobs=2), data)
    assert states(study) == [State.COMPLETE] * 4
    assert len(set(rates(study))) == 4
    unfinished = [trial for trial in study.trials if trial.state == State.FAIL and trial.params]
    assert len(unfinished) == 2
    assert {trial.params["training.learning_rate"] for trial in unfinished} < set(rates(study)[1:])
    expected = data.val.texts.sum().item()
    assert [trial.value for trial in counted_trials(study)] == pytest.approx([1.0, expected, expected, expected])

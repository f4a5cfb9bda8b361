"""Optuna studies over experiments: persistent, shared by any number of processes, with an exact budget of trials."""

import contextlib
import itertools
import logging
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import optuna
import torch
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState
from tqdm import tqdm

from frozenalign.closed_forms.canonical_maps import CanonicalMaps
from frozenalign.configuration.search_space import propose
from frozenalign.system.devices import choose_device
from frozenalign.system.errors import UserError
from frozenalign.training.data import TrainingData
from frozenalign.training.fit import fit, monitored
from frozenalign.tuning.faults import FAULT, is_of_the_trial, kind_of_fault, refuse_faults, repeat_faulty
from frozenalign.tuning.liveness import Watch, at_work, beating
from frozenalign.tuning.opening import StudyRun, create_study, open_study, refuse_only_failures
from frozenalign.tuning.storage import StorageError
from frozenalign.tuning.trial_budget import (
    NOT_COUNTED,
    REASON,
    counted_trials,
    is_complete,
    next_trial,
    requeue_abandoned,
)
from frozenalign.tuning.worker_pool import WorkerPool

logger = logging.getLogger(__name__)
DEATHS_BEFORE_STOPPING = 10
STANDING_SECONDS = 1.0
WATCH_SECONDS = 0.5


def run_study(
    run: StudyRun, data: TrainingData, canonical: CanonicalMaps | None = None, worker: int = 0, device: str = "cpu"
) -> optuna.Study:
    """Run trials until a study's budget is used up, by this and by other processes, and return the study.

    The objective is the best of a trial's epochs in the validation metric that `training.monitor` names. The weights
    that training starts from are no epoch: trials that only do harm would all score the same. Trials that an
    interruption or a fault left unfinished do not count, and their parameters are tried again first. canonical: the CCA
    that heads start from, if any. worker: number of this process among the `workers` of the study, from 0. device: what
    `device:` says for the processes of `n_jobs`, of which each chooses its own.
    """
    study = create_study(run)
    if not is_complete(run.study, study):
        repeat_faulty(study, run.queue)
    logger.info("study %s: %d of %d trials finished", run.name, len(counted_trials(study)), run.study.trials)
    try:
        if run.study.n_jobs == 1:
            _work(worker, run, data, canonical)
        elif not is_complete(run.study, study):
            _work_in_processes(worker, run, data, canonical, device, study)
    except KeyboardInterrupt:
        _log_progress(run)
        raise
    return study


def _log_progress(run: StudyRun) -> None:
    """Log how much of an interrupted study is finished.

    This takes a connection of its own, and a short wait: the other one may have been interrupted in a transaction.
    """
    with contextlib.suppress(StorageError, KeyError):
        store = replace(run.store, patience=STANDING_SECONDS)
        done = counted_trials(optuna.load_study(study_name=store.key(run.name), storage=store.open()))
        message = "interrupted: %d of %d trials are finished; run the same command to go on"
        logger.warning(message, len(done), run.study.trials)


def _work_in_processes(
    worker: int,
    run: StudyRun,
    data: TrainingData,
    canonical: CanonicalMaps | None,
    device: str,
    study: optuna.Study,
) -> None:
    """Run workers that share the data in memory; one that dies is replaced, and the others try its trial again."""
    threads = max(1, torch.get_num_threads() // run.study.n_jobs)
    deaths = 0
    # No device but the CPU shares its tensors with other processes: each worker copies them to its own.
    data = data.to(torch.device("cpu"))
    numbers = itertools.count(worker, run.study.workers)
    with WorkerPool(_worker_process, run, data, canonical, device, threads, numbers=numbers) as workers:
        while True:
            deaths += sum(code != 0 for code in workers.take_ended().values())
            refuse_only_failures(run, study)
            refuse_faults(run, study)
            if deaths > max(DEATHS_BEFORE_STOPPING, run.study.n_jobs):
                raise UserError(
                    f"study {run.name!r}: {deaths} worker processes died, often for want of memory: "
                    f"lower n_jobs ({run.study.n_jobs}) or training.batch_size"
                )
            is_done = is_complete(run.study, study)
            if is_done and not workers:
                return
            while not is_done and len(workers) < run.study.n_jobs:
                workers.start()
            # Nothing else needs watching: a worker ends as well where the study is complete or to be stopped.
            workers.wait()


def _worker_process(
    worker: int, run: StudyRun, data: TrainingData, canonical: CanonicalMaps | None, device: str, threads: int
) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("frozenalign.training.fit").setLevel(logging.WARNING)
    torch.set_num_threads(threads)
    # By default tqdm takes a system semaphore, which a killed worker would not release.
    tqdm.set_lock(threading.RLock())
    try:
        _work(worker, run, data.to(choose_device(device)), canonical)
    except UserError:
        sys.exit(1)  # the coordinator sees the same trials and reports the error once


def _work(worker: int, run: StudyRun, data: TrainingData, canonical: CanonicalMaps | None) -> None:
    """Run trials until the budget is used up; while others run the last ones, wait in case one of them dies."""
    study = open_study(run, worker)
    watch = Watch(run.folder)
    with at_work(run.folder) as mark:
        while not is_complete(run.study, study):
            refuse_only_failures(run, study)
            refuse_faults(run, study)
            requeue_abandoned(study, run.queue, watch.dead(study))
            try:
                trial = next_trial(run.study, study, mark, run.queue)
                if trial is None:
                    time.sleep(WATCH_SECONDS)
                else:
                    _run_trial(run, data, canonical, study, trial)
            except UpdateFinishedTrialError:
                logger.warning("a trial of this worker was closed by another, because it had stood still: not counted")
    refuse_only_failures(run, study)


def _run_trial(
    run: StudyRun, data: TrainingData, canonical: CanonicalMaps | None, study: optuna.Study, trial: Trial
) -> None:
    """Train one proposal, report every epoch, and record the outcome."""
    began = time.perf_counter()
    best, monitor = float("-inf"), run.study.monitor

    def on_epoch(record: dict[str, Any]) -> None:
        nonlocal best
        if record["epoch"] == 0:
            return
        best = max(best, monitored(record["val"], monitor))
        trial.set_user_attr("epochs", record["epoch"])
        trial.report(best, record["epoch"])
        is_last = record["epoch"] == experiment.training.num_epochs
        if not is_last and trial.should_prune():
            raise optuna.TrialPruned

    try:
        with beating(trial):
            experiment = propose(trial, run.study, f"study {run.name}, trial {trial.number}")
            trial.set_user_attr("experiment", experiment.as_document())
            fit(experiment, data, seed=run.study.sampler["seed"], canonical=canonical, on_epoch=on_epoch)
        state, outcome = TrialState.COMPLETE, f"{monitor} {best:.1f}"
    except optuna.TrialPruned:
        state, outcome = TrialState.PRUNED, f"pruned at {monitor} {best:.1f}"
    except (StorageError, UpdateFinishedTrialError):
        raise
    except (UserError, RuntimeError, ValueError) as error:
        trial.set_user_attr(REASON, (str(error) or type(error).__name__).splitlines()[0])
        state, outcome = TrialState.FAIL, f"failed: {error}"
        if not is_of_the_trial(error):
            trial.set_user_attr(FAULT, kind_of_fault(error))
            trial.set_user_attr(NOT_COUNTED, FAULT)
            outcome = f"does not count: {error}"
    seconds = time.perf_counter() - began
    trial.set_user_attr("seconds", seconds)
    study.tell(trial, best if state == TrialState.COMPLETE else None, state=state)
    shown = [
        f"{name.partition('.')[2]} {value:.3g}" if isinstance(value, float) else f"{name.partition('.')[2]} {value}"
        for name, value in trial.params.items()
    ]
    logger.info("trial %d: %s in %.1f s  %s", trial.number, outcome, seconds, "  ".join(shown))

"""Optuna studies over experiments: persistent, resumable, with an exact budget of finished trials."""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import Trial, TrialState
from tqdm import tqdm

from frozenalign.closed_forms.canonical_maps import CanonicalMaps
from frozenalign.configuration.search_space import propose, space_difference, space_text
from frozenalign.configuration.studies import Study
from frozenalign.system.devices import choose_device
from frozenalign.system.errors import UserError
from frozenalign.training.data import TrainingData
from frozenalign.training.fit import fit
from frozenalign.tuning.storage import Database, StorageError
from frozenalign.tuning.trial_budget import counted_trials, is_complete, next_trial, open_places, requeue_abandoned
from frozenalign.tuning.worker_pool import WorkerPool

logger = logging.getLogger(__name__)
FAILURES_BEFORE_STOPPING = 10
REASON = "reason"
STANDING_SECONDS = 1.0
WATCH_SECONDS = 0.2


@dataclass(frozen=True)
class StudyRun:
    """A study, the file of its trials, the hash of its data, and the CCA that heads start from, if any.

    device: what `device:` says for the worker processes, of which each chooses its own.
    """

    name: str
    study: Study
    database: Path
    inputs_hash: str
    canonical: CanonicalMaps | None = None
    device: str = "cpu"

    @property
    def queue(self) -> Path:
        """Return the lock file that is held while a trial is given to a worker or taken from one."""
        return self.database.with_suffix(".queue.lock")


def run_study(run: StudyRun, data: TrainingData) -> optuna.Study:
    """Run a study until its budget is used up and return it; trials of earlier runs count.

    The objective is the best validation RSUM of a trial's epochs. Trials that an interruption left unfinished do not
    count, and their parameters are tried again first. No second process may run the study at the same time.
    """
    run.database.parent.mkdir(parents=True, exist_ok=True)
    study = _open(run, worker=0)
    requeue_abandoned(study, run.queue)
    logger.info("study %s: %d of %d trials finished", run.name, len(counted_trials(study)), run.study.trials)
    try:
        if run.study.n_jobs == 1:
            _work(0, run, data)
        elif not is_complete(run.study, study):
            _work_in_processes(run, data, study)
    except KeyboardInterrupt:
        _log_progress(run)
        raise
    return study


def _log_progress(run: StudyRun) -> None:
    """Log how much of an interrupted study is finished.

    This takes a connection of its own, and a short wait: the other one may have been interrupted in a transaction.
    """
    with contextlib.suppress(StorageError, KeyError):
        database = Database(run.database, patience=STANDING_SECONDS)
        done = counted_trials(optuna.load_study(study_name=run.name, storage=database.open()))
        message = "interrupted: %d of %d trials are finished; run the same command to go on"
        logger.warning(message, len(done), run.study.trials)


def _open(run: StudyRun, worker: int) -> optuna.Study:
    """Return the study, made on first use; a changed search space or other data under its name are refused."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=run.name,
        storage=Database(run.database).open(),
        direction="maximize",
        load_if_exists=True,
        pruner=build_pruner(run.study.pruner),
    )
    study.sampler = _sampler(run.study, worker, len(study.trials))
    known = study.user_attrs
    for key, value in (("search_space", space_text(run.study)), ("inputs_hash", f"{run.study.data} {run.inputs_hash}")):
        if key not in known:
            study.set_user_attr(key, value)
        elif known[key] != value:
            is_space = key == "search_space"
            changed = space_difference(known[key], value) if is_space else "the split or the embeddings are others"
            raise UserError(
                f"study {run.name!r} has trials in {run.database} that do not fit any more: {changed}. "
                f"Give the changed study a new name (copy its file in config/tuning/), or delete {run.database}"
            )
    return study


def _sampler(study: Study, worker: int, trials_so_far: int) -> optuna.samplers.BaseSampler:
    """Return a sampler whose seed differs between workers and between a study's interruptions."""
    seed = study.sampler["seed"] + worker + 1000 * trials_so_far
    if study.sampler["type"] == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=study.sampler["startup_trials"])


def build_pruner(settings: Mapping[str, Any]) -> optuna.pruners.BasePruner:
    """Return the pruner that a study's `pruner` section describes."""
    if settings["type"] == "none":
        return optuna.pruners.NopPruner()
    if settings["type"] == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=max(1, settings["warmup_epochs"]))
    before = settings["startup_trials"], settings["warmup_epochs"]
    if settings["type"] == "median":
        return optuna.pruners.MedianPruner(*before)
    return optuna.pruners.PercentilePruner(settings["keep"], *before)


def _work_in_processes(run: StudyRun, data: TrainingData, study: optuna.Study) -> None:
    """Run workers that share the data in memory; a worker that dies is replaced and its trial tried again."""
    threads = max(1, torch.get_num_threads() // run.study.n_jobs)
    deaths = 0
    with WorkerPool(_worker_process, run, data, threads) as workers:
        while True:
            for number, exit_code in workers.take_ended().items():
                if exit_code:
                    deaths += 1
                    requeue_abandoned(study, run.queue, worker=number)
            _refuse_only_failures(run, study)
            if deaths > max(FAILURES_BEFORE_STOPPING, run.study.n_jobs):
                raise UserError(
                    f"study {run.name!r}: {deaths} worker processes died, often for want of memory: "
                    f"lower n_jobs ({run.study.n_jobs}) or training.batch_size"
                )
            places = open_places(run.study, study)
            if not places and not workers:
                return
            while len(workers) < min(run.study.n_jobs, places):
                workers.start()
            time.sleep(WATCH_SECONDS)


def _worker_process(worker: int, run: StudyRun, data: TrainingData, threads: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("frozenalign.training.fit").setLevel(logging.WARNING)
    torch.set_num_threads(threads)
    # By default tqdm takes a system semaphore, which a killed worker would not release.
    tqdm.set_lock(threading.RLock())
    try:
        _work(worker, run, data.to(choose_device(run.device)))
    except UserError:
        sys.exit(1)  # the coordinator sees the same trials and reports the error once


def _work(worker: int, run: StudyRun, data: TrainingData) -> None:
    """Run trials until the budget is used up, or will be by trials of other workers."""
    study = _open(run, worker)
    while not is_complete(run.study, study):
        _refuse_only_failures(run, study)
        trial = next_trial(run.study, study, worker, run.queue)
        if trial is None:
            return
        _run_trial(run, data, study, trial)
    _refuse_only_failures(run, study)


def _refuse_only_failures(run: StudyRun, study: optuna.Study) -> None:
    finished = counted_trials(study)
    failed = [trial for trial in finished if trial.state == TrialState.FAIL]
    if failed and len(failed) == len(finished) >= min(run.study.trials, FAILURES_BEFORE_STOPPING):
        reason = failed[-1].user_attrs.get(REASON)
        raise UserError(
            f"study {run.name!r}: all {len(failed)} trials failed; the last reason: {reason}. "
            f"Mend the cause, delete {run.database} and run again"
        )


def _run_trial(run: StudyRun, data: TrainingData, study: optuna.Study, trial: Trial) -> None:
    """Train one proposal, report every epoch, and record the outcome."""
    began = time.perf_counter()
    best = float("-inf")

    def on_epoch(record: dict[str, Any]) -> None:
        nonlocal best
        best = max(best, record["val"]["RSUM"])
        trial.set_user_attr("epochs", record["epoch"])
        trial.report(best, record["epoch"])
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        experiment = propose(trial, run.study, f"study {run.name}, trial {trial.number}")
        trial.set_user_attr("experiment", experiment.as_document())
        fit(experiment, data, seed=run.study.sampler["seed"], canonical=run.canonical, on_epoch=on_epoch)
        state, outcome = TrialState.COMPLETE, f"RSUM {best:.1f}"
    except optuna.TrialPruned:
        state, outcome = TrialState.PRUNED, f"pruned at RSUM {best:.1f}"
    except StorageError:
        raise
    except (UserError, RuntimeError, ValueError) as error:
        trial.set_user_attr(REASON, (str(error) or type(error).__name__).splitlines()[0])
        state, outcome = TrialState.FAIL, f"failed: {error}"
    seconds = time.perf_counter() - began
    trial.set_user_attr("seconds", seconds)
    study.tell(trial, best if state == TrialState.COMPLETE else None, state=state)
    shown = [
        f"{name.partition('.')[2]} {value:.3g}" if isinstance(value, float) else f"{name.partition('.')[2]} {value}"
        for name, value in trial.params.items()
    ]
    logger.info("trial %d: %s in %.1f s  %s", trial.number, outcome, seconds, "  ".join(shown))

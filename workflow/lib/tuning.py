"""Optuna studies over experiments: persistent, resumable, with an exact budget of finished trials."""

import contextlib
import fcntl
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import optuna
import torch
import torch.multiprocessing
from optuna.trial import FrozenTrial, Trial, TrialState

from workflow.lib.errors import UserError
from workflow.lib.search_space import propose, space_difference, space_text
from workflow.lib.settings import Study
from workflow.lib.training import TrainingData, fit

logger = logging.getLogger(__name__)

FAILURES_BEFORE_STOPPING = 10
LOCK_SECONDS = 60
NOT_COUNTED = "not_counted"
ABANDONED = "abandoned_trials"
REASON = "reason"
WATCH_SECONDS = 0.2


@dataclass(frozen=True)
class StudyRun:
    """A study, where its trials are kept, and what its data are known by."""

    name: str
    study: Study
    database: Path
    inputs_hash: str


def prepare_workers(study: Study) -> None:
    """Start importing for a study's worker processes, in the background, if it has several.

    A fork server imports PyTorch once for all workers, and a worker inherits no thread and no CUDA context.
    """
    if study.n_jobs > 1:
        torch.multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])
        forkserver.ensure_running()


def run_study(run: StudyRun, data: TrainingData) -> optuna.Study:
    """Bring a study to its budget and return it; what an earlier run finished is kept and counted.

    The objective is the best validation RSUM of a trial's epochs. Trials that an interruption left unfinished are
    closed, do not count, and their parameters are tried again first.
    """
    run.database.parent.mkdir(parents=True, exist_ok=True)
    with _only_one_run(run.database.with_suffix(".lock")):
        study = _open(run, worker=0)
        _requeue_abandoned(run, study)
        done = len(counted_trials(study))
        logger.info("study %s: %d of %d trials finished", run.name, done, run.study.trials)
        if run.study.n_jobs == 1:
            _work(run, data, worker=0)
        elif not _is_complete(run, study):
            _work_in_processes(run, data, study)
    return study


@contextlib.contextmanager
def _only_one_asks(run: StudyRun) -> Iterator[None]:
    """Hold a lock while a trial changes hands: SQLite lets two processes take one waiting trial at the same time."""
    with run.database.with_suffix(".queue.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _only_one_run(path: Path) -> Iterator[None]:
    """Hold a lock file that the system frees when the process ends, however it ends."""
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{path}: another run works on this study: wait for it, or stop it") from error
        yield


def _open(run: StudyRun, worker: int) -> optuna.Study:
    """Open the study, making it on first use; other parameters or other data under the same name are refused."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{run.database}", engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}}
    )
    pruner = build_pruner(run.study.pruner)
    study = optuna.create_study(
        study_name=run.name, storage=storage, direction="maximize", load_if_exists=True, pruner=pruner
    )
    study.sampler = _sampler(run.study, worker, len(study.trials))
    known = study.user_attrs
    for key, value in (("search_space", space_text(run.study)), ("inputs_hash", f"{run.study.data} {run.inputs_hash}")):
        if key not in known:
            study.set_user_attr(key, value)
        elif known[key] != value:
            _refuse_change(run, key, known[key], value)
    return study


def _refuse_change(run: StudyRun, key: str, old: str, new: str) -> None:
    changed = space_difference(old, new) if key == "search_space" else "the split or the embeddings are others"
    raise UserError(
        f"study {run.name!r} has trials in {run.database} that do not fit any more: {changed}. "
        f"Give the changed study a new name (copy its file in config/tuning/), or delete {run.database}"
    )


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


def counted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count towards the budget: completed, pruned, or failed for a reason of their own."""
    abandoned = study.user_attrs.get(ABANDONED, [])
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and NOT_COUNTED not in trial.user_attrs and trial.number not in abandoned
    ]


def _requeue_abandoned(run: StudyRun, study: optuna.Study, worker: int | None = None) -> None:
    """Close running trials of a dead worker, or of all, and put their parameters first in the queue.

    A trial without a worker was taken by one that died before it could sign; nobody else closes it.
    """
    with _only_one_asks(run):
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            if worker is None or trial.user_attrs.get("worker", worker) == worker:
                study.set_user_attr(ABANDONED, [*study.user_attrs.get(ABANDONED, []), trial.number])
                study.enqueue_trial(trial.params)
                study.tell(trial.number, state=TrialState.FAIL)
                logger.info("trial %d was interrupted; its parameters are tried again", trial.number)


def _work_in_processes(run: StudyRun, data: TrainingData, study: optuna.Study) -> None:
    """Run workers that share the data in memory; a worker that dies is replaced and its trial tried again."""
    prepare_workers(run.study)
    context = torch.multiprocessing.get_context("forkserver")
    threads = max(1, torch.get_num_threads() // run.study.n_jobs)
    workers: dict[int, Any] = {}
    started, deaths = 0, 0
    while True:
        for number, worker in list(workers.items()):
            if worker.is_alive():
                continue
            del workers[number]
            if worker.exitcode:
                deaths += 1
                _requeue_abandoned(run, study, worker=number)
        _refuse_hopeless(run, study, deaths)
        if _is_complete(run, study) and not workers:
            return
        while len(workers) < run.study.n_jobs and _open_places(run, study) > len(workers):
            worker = context.Process(target=_worker_process, args=(run, data, started, threads), daemon=True)
            worker.start()
            workers[started] = worker
            started += 1
        time.sleep(WATCH_SECONDS)


def _open_places(run: StudyRun, study: optuna.Study) -> int:
    return 0 if _is_complete(run, study) else run.study.trials - len(counted_trials(study))


def _is_complete(run: StudyRun, study: optuna.Study) -> bool:
    """Say whether a study has its trials, or has used up its seconds."""
    counted = counted_trials(study)
    spent = sum(trial.user_attrs.get("seconds", 0.0) for trial in counted)
    return len(counted) >= run.study.trials or (run.study.seconds is not None and spent >= run.study.seconds)


def _refuse_hopeless(run: StudyRun, study: optuna.Study, deaths: int) -> None:
    _refuse_only_failures(run, study)
    if deaths > max(FAILURES_BEFORE_STOPPING, run.study.n_jobs):
        raise UserError(
            f"study {run.name!r}: {deaths} worker processes died, often for want of memory: "
            f"lower n_jobs ({run.study.n_jobs}) or training.batch_size"
        )


def _worker_process(run: StudyRun, data: TrainingData, worker: int, threads: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("workflow.lib.training").setLevel(logging.WARNING)
    torch.set_num_threads(threads)
    try:
        _work(run, data, worker)
    except UserError:
        sys.exit(1)  # the coordinator sees the same trials and says it once


def _work(run: StudyRun, data: TrainingData, worker: int) -> None:
    """Run trials until the budget is finished or being finished by others."""
    study = _open(run, worker)
    while not _is_complete(run, study):
        _refuse_only_failures(run, study)
        with _only_one_asks(run):
            trial = study.ask()
            trial.set_user_attr("worker", worker)
        if _is_surplus(study, trial.number, run.study.trials):
            trial.set_user_attr(NOT_COUNTED, "surplus")
            study.tell(trial, state=TrialState.FAIL)
            return
        _run_trial(run, data, study, trial)
    _refuse_only_failures(run, study)


def _is_surplus(study: optuna.Study, number: int, budget: int) -> bool:
    """Say whether the trials asked for before this one fill the budget if they all finish."""
    lower = [trial for trial in study.get_trials(deepcopy=False) if trial.number < number]
    abandoned = study.user_attrs.get(ABANDONED, [])
    places = [trial for trial in lower if NOT_COUNTED not in trial.user_attrs and trial.number not in abandoned]
    return sum(trial.state != TrialState.WAITING for trial in places) >= budget


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
    """Train one proposal, report every epoch, and record how it ended."""
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
        fit(experiment, data, seed=run.study.sampler["seed"], on_epoch=on_epoch)
        state, outcome = TrialState.COMPLETE, f"RSUM {best:.1f}"
    except optuna.TrialPruned:
        state, outcome = TrialState.PRUNED, f"pruned at RSUM {best:.1f}"
    except KeyboardInterrupt:
        trial.set_user_attr(NOT_COUNTED, "interrupted")
        study.tell(trial, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
        raise
    except (UserError, RuntimeError, ValueError) as error:
        trial.set_user_attr(REASON, (str(error) or type(error).__name__).splitlines()[0])
        state, outcome = TrialState.FAIL, f"failed: {error}"
    seconds = time.perf_counter() - began
    trial.set_user_attr("seconds", seconds)
    study.tell(trial, best if state == TrialState.COMPLETE else None, state=state)
    logger.info("trial %d: %s in %.1f s  %s", trial.number, outcome, seconds, _shown(trial.params))


def _shown(parameters: dict[str, Any]) -> str:
    return "  ".join(
        f"{name.partition('.')[2]} {value:.3g}" if isinstance(value, float) else f"{name.partition('.')[2]} {value}"
        for name, value in parameters.items()
    )

"""A study as it is asked for, opened where its trials are kept, with the sampler and the pruner that it names."""

from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import TrialState

from frozenalign.configuration.result_files import read_result
from frozenalign.configuration.search_space import space_difference, space_text
from frozenalign.configuration.studies import AUTO, Study, load_study
from frozenalign.configuration.variants import checked_name
from frozenalign.data.inputs import Manifest
from frozenalign.system.errors import UserError
from frozenalign.tuning.journal import Journal
from frozenalign.tuning.pruners import build_pruner
from frozenalign.tuning.server import Server
from frozenalign.tuning.storage import Database, Store
from frozenalign.tuning.trial_budget import REASON, counted_trials

FAILURES_BEFORE_STOPPING = 10
# Up to version 0.2.0 a trial that did only harm had the value of the weights that it started from.
OLD_OBJECTIVE = "RSUM of all epochs, the start among them"


@dataclass(frozen=True)
class StudyRun:
    """A study, its folder and its data: their hash, how many pairs an epoch has, the name of their data set.

    A server holds studies of several data sets.
    """

    name: str
    study: Study
    folder: Path
    inputs_hash: str
    pairs: int
    dataset: str = ""

    @property
    def files(self) -> dict[str, Database | Journal]:
        """Return the files that may hold the trials, by the name of their kind."""
        return {"sqlite": Database(self.folder / "study.db"), "journal": Journal(self.folder / "study.journal")}

    @property
    def store(self) -> Store:
        """Return where the trials are kept: where the study says, else where they are, else what suits the workers."""
        if self.study.storage != AUTO:
            return self.files.get(self.study.storage) or Server(self.study.storage, self.dataset)
        there = [file for file in self.files.values() if file.path.exists()]
        return (there or [self.files["journal" if self.study.workers > 1 else "sqlite"]])[0]

    @property
    def queue(self) -> Path:
        """Return the lock file that is held while a trial is given to a worker or taken from one."""
        return self.folder / "study.queue.lock"


def asked_study(path: Path, name: str | None, folder: Path, split_dir: Path, dataset: str) -> StudyRun:
    """Return the study of a file, by default under the file's name, on the data of a split."""
    study = load_study(path)
    name = checked_name(name or path.stem, "the study")
    content = read_result(split_dir / "manifest.json")
    manifest, pairs = Manifest.of(content), content["splits"][study.data]["pairs"]
    return StudyRun(name, study, folder, manifest.inputs(study.data).digest(), pairs, dataset or manifest.dataset)


def create_study(run: StudyRun) -> optuna.Study:
    """Return a study, made if it is new; one whose trials lie in a file that it does not name any more is refused."""
    run.folder.mkdir(parents=True, exist_ok=True)
    for file in run.files.values():
        if file.path.exists() and file != run.store:
            raise UserError(
                f"study {run.name!r} has trials in {file.path}, and its `storage` is another: take that key out of the "
                f"study's file to go on with them, or {file.removal} to begin anew"
            )
    return open_study(run, worker=0)


def open_study(run: StudyRun, worker: int) -> optuna.Study:
    """Return a study, made on first use; a changed search space or other data under its name are refused."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = {"study_name": run.store.key(run.name), "storage": run.store.open()}
    pruner = build_pruner(run.study.pruner, run.pairs)
    try:
        study = optuna.load_study(**place, pruner=pruner)
    except KeyError:
        study = optuna.create_study(**place, pruner=pruner, direction="maximize", load_if_exists=True)
    # Before the attributes are read: another process sets them before its first trial.
    trials = len(study.trials)
    study.sampler = _sampler(run.study, worker, trials)
    known = study.user_attrs
    current = {
        "search_space": space_text(run.study),
        "inputs_hash": f"{run.study.data} {run.inputs_hash}",
        "objective": f"{run.study.monitor} of all epochs after the start",
    }
    if trials:
        known = {"objective": OLD_OBJECTIVE} | known
    for key, value in current.items():
        if key not in known:
            study.set_user_attr(key, value)
        elif known[key] != value:
            raise UserError(
                f"study {run.name!r} has trials that do not fit any more: {_change(key, known[key], value)}. "
                f"Give the changed study a new name (copy its file in config/tuning/), or {run.store.removal}"
            )
    return study


def _change(key: str, old: str, new: str) -> str:
    """Return in words what differs between what a study was begun with and what is asked for."""
    if key == "search_space":
        return space_difference(old, new)
    if key == "objective":
        return f"they were judged by {old}, and now it is {new}"
    return "the split or the embeddings are others"


def _sampler(study: Study, worker: int, trials_so_far: int) -> optuna.samplers.BaseSampler:
    """Return a sampler whose seed differs between workers and between a study's interruptions."""
    seed = study.sampler["seed"] + worker + 1000 * trials_so_far
    if study.sampler["type"] == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=study.sampler["startup_trials"])


def refuse_only_failures(run: StudyRun, study: optuna.Study) -> None:
    """Stop a study of which every trial so far has failed, with the last reason."""
    finished = counted_trials(study)
    failed = [trial for trial in finished if trial.state == TrialState.FAIL]
    if failed and len(failed) == len(finished) >= min(run.study.trials, FAILURES_BEFORE_STOPPING):
        reason = failed[-1].user_attrs.get(REASON)
        raise UserError(
            f"study {run.name!r}: all {len(failed)} trials failed; the last reason: {reason}. "
            f"Mend the cause, {run.store.removal} and run again"
        )

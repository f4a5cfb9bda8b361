"""Which processes of a study are alive: a lock for those of the same machine, a count that goes on for all others."""

import contextlib
import itertools
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from frozenalign.system.locks import in_turn, is_held
from frozenalign.tuning.storage import StorageError

WORKER = "worker"
BEAT = "beat"
BEAT_SECONDS = 5.0
# A trial counts as dead after so many looks at which nothing of it had changed. Looks, not seconds: an observer that
# was itself stopped, or waited for a database, has seen nothing in that time.
LOOKS = 45
# A trial gets the mark of its process right after it is made: one without a mark was left between the two.
LOOKS_WITHOUT_MARK = 5
LOOK_SECONDS = 1.0


@contextlib.contextmanager
def at_work(folder: Path) -> Iterator[dict[str, str]]:
    """Hold a lock that ends with this process, and yield the mark that its trials get."""
    host = socket.gethostname()
    path = folder / f".worker-{host}-{secrets.token_hex(4)}.lock"
    try:
        with in_turn(path) as has_locks:
            yield {"host": host, "lock": path.name} if has_locks else {}
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def beating(trial: Trial) -> Iterator[None]:
    """Count in a trial during a block, so that others see its process live."""
    ended = threading.Event()

    def beat() -> None:
        for count in itertools.count(1):
            if ended.wait(BEAT_SECONDS):
                return
            try:
                trial.set_user_attr(BEAT, count)
            except UpdateFinishedTrialError:
                return
            except StorageError:
                # The process itself meets the same, and says so.
                continue

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


class Watch:
    """What one process has seen of the running trials of the others.

    folder: holds the locks of processes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[int, tuple[str, int]] = {}
        self._looked = float("-inf")

    def dead(self, study: optuna.Study) -> list[int]:
        """Return the numbers of running trials whose processes are gone, or have stood still for too many looks."""
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._looked = time.monotonic()
            self._seen = {trial.number: self._look(trial) for trial in running}
        return [trial.number for trial in running if self._is_gone(trial) or self._stands_still(trial)]

    def _look(self, trial: FrozenTrial) -> tuple[str, int]:
        """Return the state of a trial, and at how many looks before this one it was the same."""
        state = repr((trial.user_attrs, trial.params, trial.intermediate_values))
        before, looks = self._seen.get(trial.number, ("", 0))
        return state, looks + 1 if state == before else 0

    def _stands_still(self, trial: FrozenTrial) -> bool:
        _, looks = self._seen.get(trial.number, ("", 0))
        return looks >= (LOOKS if WORKER in trial.user_attrs else LOOKS_WITHOUT_MARK)

    def _is_gone(self, trial: FrozenTrial) -> bool:
        """Return whether a trial's process ran on this machine and has ended."""
        mark = trial.user_attrs.get(WORKER)
        is_here = isinstance(mark, dict) and mark.get("host") == socket.gethostname()
        return is_here and not is_held(self._folder / Path(mark["lock"]).name)

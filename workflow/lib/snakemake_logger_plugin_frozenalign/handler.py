"""Shows a line as a job starts and one as it ends, errors whole, and leaves the rest to the logs."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from logging import WARNING, LogRecord

from snakemake.logging import ColorizingTextHandler, DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_frozenalign import executor, lines, logs
from snakemake_logger_plugin_frozenalign.progress import COLLECTING, Progress
from snakemake_logger_plugin_frozenalign.watch import Watch

BEFORE_THE_RUN = ("Assuming unrestricted shared filesystem usage", "Config file ")
STOPPING = "Terminating processes on user request"
KEPT = (
    STOPPING,
    "Will exit after finishing currently running jobs",
    "Nothing to be done",
    "Creating conda environment",
    "Pulling singularity image",
)
SAID_BY_THE_LAST_LINE = (
    "Exiting because a job execution failed",
    "error: At least one job did not complete successfully.",
)
# Without an account Slurm takes the user's own, as anywhere.
NO_ACCOUNT = ("No SLURM account given", "No account was given", "Unable to guess SLURM account")
DIED = re.compile(r"\nCommand '(.+)' (?:died with <Signals\.(\w+)|returned non-zero exit status (\d+))", re.DOTALL)
SIGNALS = {128 + number: number.name for number in signal.Signals}


@dataclass
class Job:
    """A job that runs."""

    rule: str
    description: str
    command: str | None
    logs: dict[str, tuple[int, int] | None]
    began: float
    killed: str = ""
    progress: str = ""

    def written(self, paths: Iterable[str]) -> list[str]:
        """Return the logs to which this job, and not one of an earlier run, has written."""
        return [path for path in paths if logs.state(path) != self.logs.get(path)]


class LogHandler(LogHandlerBase):
    """The console; with -n, -p, --verbose, --debug-dag or --quiet it leaves the terminal to Snakemake's own."""

    def __post_init__(self) -> None:
        """Start with no run; until there is one, Snakemake's own words are shown."""
        settings = self.common_settings
        self.snakemake = ColorizingTextHandler(settings.nocolor, sys.stderr, DefaultFormatter())
        self.began: float | None = None
        self.progress: Progress | None = None
        self.watch: Watch | None = None
        self.running: dict[int, Job] = {}
        self.failed: dict[int, str] = {}
        self.said: dict[int, list[str]] = {}
        self.stopping = False
        self.dataset: str | None = None
        self.events: dict[LogEvent, Callable[[LogRecord], None]] = {
            LogEvent.WORKFLOW_STARTED: self._run_started,
            LogEvent.RUN_INFO: self._planned,
            LogEvent.JOB_INFO: self._job_started,
            LogEvent.JOB_FINISHED: self._job_finished,
            LogEvent.JOB_ERROR: self._job_failed,
            LogEvent.ERROR: self._error,
        }

    @property
    def writes_to_stream(self) -> bool:
        """Say whether this console is used; where it is not, Snakemake sets up its own."""
        asked = self.common_settings
        return not (asked.dryrun or asked.printshellcmds or asked.verbose or asked.debug_dag or asked.quiet)

    @property
    def writes_to_file(self) -> bool:
        """Snakemake keeps the whole log in .snakemake/log."""
        return False

    @property
    def has_filter(self) -> bool:
        """What is shown is decided here."""
        return True

    @property
    def has_formatter(self) -> bool:
        """How it is shown is decided here."""
        return True

    @property
    def needs_rulegraph(self) -> bool:
        """The rules' graph is not used."""
        return False

    def emit(self, record: LogRecord) -> None:
        """Show a record, if it is for people."""
        try:
            if self.writes_to_stream:
                self.events.get(getattr(record, "event", None), self._other)(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Show how the run ended, once."""
        if self.watch:
            self.watch.stop()
        if self.progress:
            done, total, seconds = self.progress.finished, self.progress.total, time.time() - self.began
            self._write(lines.last_line(done, total, seconds, list(self.failed.values())))
            self.progress = None
        super().close()

    def _run_started(self, record: LogRecord) -> None:
        self.began = record.created

    def _planned(self, record: LogRecord) -> None:
        self.progress = Progress(record.stats, record.created)
        self.watch = self.watch or Watch(self.show_progress)

    def show_progress(self) -> None:
        """Show how far each running job is that says so in its log, if that has changed."""
        for job in list(self.running.values()):
            said = next(filter(None, map(logs.progress, job.written(job.logs))), "")
            if said not in ("", job.progress):
                job.progress = said
                self._write(f"{job.description}: {said}")

    def _job_started(self, record: LogRecord) -> None:
        if record.rule_name in COLLECTING:
            return
        known = {path: logs.state(path) for path in record.log}
        # A rule of a pair of encodings has the name of its data set before its own.
        own = record.rule_name.removeprefix(f"{record.wildcards.get('dataset')}_")
        described = lines.description(own, self._telling(record.wildcards))
        self.running[record.jobid] = Job(record.rule_name, described, record.shellcmd, known, record.created)
        self._write(f"{described}, again" if record.jobid in self.failed else described)

    def _telling(self, wildcards: dict[str, str]) -> dict[str, str]:
        """Return the wildcards that tell a job from others: the data set does from the second one on."""
        self.dataset = self.dataset or wildcards.get("dataset")
        return {name: value for name, value in wildcards.items() if (name, value) != ("dataset", self.dataset)}

    def _job_finished(self, record: LogRecord) -> None:
        job = self.running.pop(record.job_id, None)
        if job is None:
            return
        self.failed.pop(record.job_id, None)
        seconds = record.created - job.began
        self.progress.took[job.rule].append(seconds)
        found = next(filter(None, map(logs.finding, job.written(job.logs))), "")
        left = self.progress.seconds_left(record.created)
        said = "" if left is None else lines.time_left(left)
        count = f"{self.progress.finished} of {self.progress.total}"
        self._write(lines.end_line(job.description, found, seconds, count, said, self._width()))

    def _job_failed(self, record: LogRecord) -> None:
        job = self.running.pop(record.jobid, None)
        if job is None:
            self._other(record)
            return
        seconds = record.created - job.began
        if self.stopping or job.killed == "SIGINT":
            self._write(f"{job.description}: stopped after {lines.duration(seconds)}")
            return
        self.failed[record.jobid] = job.description
        reasons = executor.plain(record.rule_msg or "", job.rule)
        # What an executor keeps of a job, its own log after those of the rule, tells only what these do not.
        told = () if executor.explained(reasons) else map(logs.complaint, job.written(record.log))
        ends = next(filter(None, told), [])
        if reasons + ends and self.said.get(record.jobid) == reasons + ends:
            self._write(f"{job.description}: failed as before")
            return
        self.said[record.jobid] = reasons + ends
        said = [*reasons, *(f"{name}: {value}" for name, value in record.aux.items()), *ends]
        failure = lines.failure_lines(job.description, seconds, job.killed, said, record.log)
        self._write(self.snakemake.decorate(record, lines.indented(failure, self._width())))

    def _error(self, record: LogRecord) -> None:
        died = DIED.search(record.msg)
        failed = died and next(
            (job for job in self.running.values() if job.command and died[1].endswith(job.command)), None
        )
        if failed:
            failed.killed = died[2] or SIGNALS.get(int(died[3]), "")
            return
        if record.exception == "WorkflowError":
            record.msg = lines.plain_error(record.msg)
        self._other(record)

    def _other(self, record: LogRecord) -> None:
        self.stopping |= str(record.msg).startswith(STOPPING)
        if self._is_for_people(record):
            self.snakemake.emit(record)

    def _is_for_people(self, record: LogRecord) -> bool:
        """Say whether a message that is of no job is shown: before a run all are, in it what a user must know."""
        said = str(record.msg)
        if said.startswith((*SAID_BY_THE_LAST_LINE, *NO_ACCOUNT)):
            return False
        if self.began is None:
            return not said.startswith(BEFORE_THE_RUN)
        return record.levelno >= WARNING or said.startswith(KEPT)

    def _width(self) -> int | None:
        """Return how many columns the terminal has, None where lines go somewhere else."""
        return os.get_terminal_size(sys.stderr.fileno()).columns if sys.stderr.isatty() else None

    def _write(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

"""The console shows a line as a job starts and one as it ends, and errors whole."""

import logging
import re
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_frozenalign import LogHandler, executor, lines, logs
from snakemake_logger_plugin_frozenalign.progress import COLLECTING, Progress

ROOT = Path(__file__).parents[2]
ASKED_FOR_SNAKEMAKES_OWN = ["dryrun", "printshellcmds", "verbose", "debug_dag", "quiet"]
DIED = "RuleException:\nCalledProcessError in file \"x.smk\", line 4:\nCommand 'set -euo pipefail;  train it' {how}."
FAILED = {"rule_msg": None, "aux": {}, "level": logging.ERROR}


@pytest.mark.parametrize(
    ("rule", "wildcards", "said"),
    [
        ("demo_data", {}, "demo data"),
        ("split", {}, "split"),
        ("tune_init", {"study": "short"}, "tune init short"),
        ("tune_worker", {"study": "short", "worker": "1-of-1"}, "tune short"),
        ("encode_images", {"job": "1-of-1"}, "encode images"),
        ("encode_texts", {"job": "2-of-3"}, "encode texts, job 2 of 3"),
        ("tune_worker", {"study": "2-of-3", "worker": "2-of-4"}, "tune 2-of-3, worker 2 of 4"),
        ("train", {"experiment": "mlp", "seed": "0"}, "train mlp, seed 0"),
        ("train", {"dataset": "coco", "experiment": "mlp", "seed": "0"}, "train mlp, dataset coco, seed 0"),
    ],
)
def test_a_job_is_named_by_its_rule_and_wildcards(rule, wildcards, said):
    assert lines.description(rule, wildcards) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (12.4, "12 s"), (59.7, "1 min 0 s"), (117, "1 min 57 s"), (3600, "1 h 0 min"), (9000, "2 h 30 min")],
)
def test_a_duration_has_two_units_at_most(seconds, said):
    assert lines.duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(8, "under a minute left"), (61, "about 1 min left"), (3000, "about 50 min left"), (9000, "about 2 h left")],
)
def test_the_time_left_is_rounded(seconds, said):
    assert lines.time_left(seconds) == said


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (None, "train mlp, seed 0: val RSUM 475.1, epoch 4 of 5, 12 s · 9 of 31, about 1 min left"),
        (81, "train mlp, seed 0: val RSUM 475.1, epoch 4 of 5, 12 s · 9 of 31, about 1 min left"),
        (80, "train mlp, seed 0: val RSUM 475.1, epoch 4 of 5, 12 s · 9 of 31, ~1 min left"),
        (70, "train mlp, seed 0: val RSUM 475.1, epoch 4 of 5, 12 s · 9 of 31"),
        (55, "train mlp, seed 0: val RSUM 475.1, epo…, 12 s · 9 of 31"),
    ],
)
def test_a_narrow_terminal_shortens_the_time_left_first(width, said):
    found = "val RSUM 475.1, epoch 4 of 5"
    assert lines.end_line("train mlp, seed 0", found, 12, "9 of 31", "about 1 min left", width) == said


def test_a_job_that_found_nothing_says_how_long_it_took():
    assert lines.end_line("split", "", 1, "2 of 2", "", 80) == "split: 1 s · 2 of 2"
    assert lines.end_line("split", "", 1, "2 of 2", "", 8) == "split: 1 s · 2 of 2"


def test_a_long_error_is_broken_between_words_in_a_terminal_only():
    error = ["train mlp: failed after 3 s", "error: the loss became nan"]
    assert lines.indented(error, None) == "train mlp: failed after 3 s\n    error: the loss became nan"
    assert lines.indented(error, 20) == "train mlp: failed after 3 s\n    error: the loss\n    became nan"


def test_an_error_of_the_workflow_is_shown_without_its_way_through_the_code():
    text = 'WorkflowError in file "/a/common.smk", line 66:\nunknown key\n  File "/a/Snakefile", line 2, in <module>\n'
    assert lines.plain_error(text) == "error: unknown key"


def test_the_last_finding_of_a_log_counts(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("epoch 1\nfound: one\n12:03:40  found: val RSUM 9.0 \nwritten to results\n")
    assert logs.finding(str(log)) == "val RSUM 9.0"
    log.write_text("what was found: nothing\n")
    assert logs.finding(str(log)) == ""
    assert logs.finding(str(tmp_path / "absent.log")) == ""


@pytest.mark.parametrize("error", ["error: no\nin two lines", "Traceback (most recent call last):\n  File\nValueError"])
def test_an_error_is_taken_whole_from_a_log(tmp_path, error):
    log = tmp_path / "train.log"
    log.write_text(f"epoch 1\n{error}\n")
    assert logs.complaint(str(log)) == error.splitlines()


def test_a_log_without_an_error_shows_its_last_lines(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("".join(f"epoch {number}\n" for number in range(100)))
    assert logs.complaint(str(log)) == [f"epoch {number}" for number in range(80, 100)]


def test_a_log_sent_to_storage_is_read_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / ".snakemake/storage/s3/bucket/x.log"
    copy.parent.mkdir(parents=True)
    copy.write_text("found: it\n")
    assert logs.finding("s3://bucket/x.log (send to storage)") == "it"


def test_rules_that_only_collect_files_are_no_jobs():
    assert Progress({"train": 2, "all": 1, "total": 3}, began=0).total == 2
    assert set(re.findall(r"^rule (\w+):", (ROOT / "Snakefile").read_text(), re.MULTILINE)) == set(COLLECTING)


def test_the_time_left_is_told_once_most_of_the_rest_is_known():
    progress = Progress({"split": 1, "train": 4, "report": 1, "total": 6}, began=0)
    progress.took["split"].append(2)
    assert progress.seconds_left(now=2) is None
    progress.took["train"] += [10, 10]
    assert progress.finished == 3
    assert progress.seconds_left(now=12) == pytest.approx((20 + 22 / 3) * 12 / 22)
    progress.took["train"] += [10, 10]
    progress.took["report"].append(1)
    assert progress.seconds_left(now=30) is None


class Run:
    """A handler that is told of a run as Snakemake would."""

    def __init__(self, folder: Path) -> None:
        self.settings = SimpleNamespace(**dict.fromkeys(["nocolor", *ASKED_FOR_SNAKEMAKES_OWN], False))
        self.log = folder / "train.log"
        self.clock = 0.0

    @cached_property
    def handler(self) -> LogHandler:
        """Make the handler in the test itself: in a fixture, standard error is another."""
        return LogHandler(self.settings, None)

    def tell(self, event: LogEvent | None, message: str = "", level: int = logging.INFO, **facts) -> None:
        record = logging.makeLogRecord({"msg": message, "levelno": level, "levelname": logging.getLevelName(level)})
        record.__dict__.update(facts, created=self.clock, event=event)
        self.handler.emit(record)

    def start(self) -> None:
        self.tell(None, "Assuming unrestricted shared filesystem usage.")
        self.tell(LogEvent.WORKFLOW_STARTED)
        self.tell(None, "Building DAG of jobs...")
        self.tell(LogEvent.RUN_INFO, stats={"train": 2, "all": 1, "total": 3})

    def start_job(self, number: int, **wildcards: str) -> None:
        facts = {"rule_name": "train", "wildcards": wildcards, "shellcmd": "train it", "log": [str(self.log)]}
        self.tell(LogEvent.JOB_INFO, jobid=number, **facts)


@pytest.fixture
def run(tmp_path):
    told = Run(tmp_path)
    yield told
    told.handler.close()


def shown(capsys) -> list[str]:
    captured = capsys.readouterr()
    assert not captured.out
    return captured.err.splitlines()


def test_a_run_shows_its_jobs_and_how_it_ended(run, capsys):
    run.start()
    run.start_job(1, dataset="demo", experiment="mlp", seed="0")
    run.log.write_text("found: val RSUM 9.0\n")
    run.clock = 12
    run.tell(LogEvent.JOB_FINISHED, job_id=1)
    run.start_job(2, dataset="other", experiment="mlp", seed="0")
    run.clock = 24
    run.tell(LogEvent.JOB_FINISHED, job_id=2)
    run.tell(LogEvent.JOB_INFO, jobid=0, rule_name="all", wildcards={}, shellcmd=None, log=[])
    run.tell(LogEvent.JOB_FINISHED, job_id=0)
    assert shown(capsys) == [
        "train mlp, seed 0",
        "train mlp, seed 0: val RSUM 9.0, 12 s · 1 of 2, under a minute left",
        "train mlp, dataset other, seed 0",
        "train mlp, dataset other, seed 0: 12 s · 2 of 2",
    ]
    run.handler.close()
    run.handler.close()
    assert [line[:11] for line in shown(capsys)] == ["2 of 2 jobs"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("returned non-zero exit status 1", "failed"),
        ("died with <Signals.SIGKILL: 9>", "killed by SIGKILL"),
        ("returned non-zero exit status 137", "killed by SIGKILL"),
    ],
)
def test_a_failed_job_is_shown_once_with_its_error(run, capsys, how, said):
    run.start()
    run.start_job(1, experiment="mlp")
    run.log.write_text("epoch 1\nerror: the loss became nan\n")
    run.clock = 3
    run.tell(LogEvent.ERROR, DIED.format(how=how), logging.ERROR, exception="RuleException")
    run.tell(LogEvent.JOB_ERROR, jobid=1, log=[str(run.log)], **FAILED)
    last = "WorkflowError:\nAt least one job did not complete successfully."
    run.tell(LogEvent.ERROR, last, logging.ERROR, exception="WorkflowError")
    run.handler.close()
    *lines_shown, end = shown(capsys)
    assert lines_shown == [
        "train mlp",
        f"train mlp: {said} after 3 s",
        "    error: the loss became nan",
        f"    log: {run.log}",
    ]
    assert end.startswith("0 of 2 jobs, ")
    assert end.endswith("; 1 failed: train mlp")


def test_a_job_that_is_tried_again_and_succeeds_has_not_failed(run, capsys):
    run.start()
    run.start_job(1, experiment="mlp")
    run.tell(LogEvent.JOB_ERROR, jobid=1, log=[], **FAILED | {"rule_msg": "out of memory", "aux": {"job": "77"}})
    run.start_job(1, experiment="mlp")
    run.tell(LogEvent.JOB_FINISHED, job_id=1)
    run.handler.close()
    *lines_shown, end = shown(capsys)
    assert lines_shown == [
        "train mlp",
        "train mlp: failed after 1 s",
        "    out of memory",
        "    job: 77",
        "train mlp, again",
        "train mlp: 1 s · 1 of 2",
    ]
    assert "failed" not in end


def test_the_log_of_an_earlier_run_is_not_shown(run, capsys):
    run.start()
    run.log.write_text("found: val RSUM 9.0\n")
    run.start_job(1, experiment="mlp")
    run.tell(LogEvent.JOB_FINISHED, job_id=1)
    run.log.write_text("error: an old one\n")
    run.start_job(2, experiment="linear")
    run.tell(LogEvent.JOB_ERROR, jobid=2, log=[str(run.log)], **FAILED)
    said = "\n".join(shown(capsys))
    assert "RSUM" not in said
    assert "an old one" not in said


def test_a_job_that_the_user_stops_has_not_failed(run, capsys):
    run.start()
    run.start_job(1, experiment="mlp")
    run.tell(None, "Terminating processes on user request, this might take some time.")
    run.tell(LogEvent.JOB_ERROR, jobid=1, log=[], **FAILED)
    run.handler.close()
    _, stopping, stopped, end = shown(capsys)
    assert stopping.startswith("Terminating processes")
    assert stopped == "train mlp: stopped after 1 s"
    assert "failed" not in end


def test_warnings_and_errors_of_snakemake_are_shown(run, capsys):
    run.start()
    run.tell(None, "Select jobs to execute...")
    run.tell(None, "the clock of the file system is slow", logging.WARNING)
    run.tell(LogEvent.ERROR, "Missing input files:\n    x", logging.ERROR, exception="MissingInputException")
    assert shown(capsys) == ["the clock of the file system is slow", "Missing input files:", "    x"]


def test_before_a_run_snakemakes_own_words_are_shown(run, capsys):
    run.tell(None, "Unlocked working directory.")
    assert shown(capsys) == ["Unlocked working directory."]


@pytest.mark.parametrize("asked", ASKED_FOR_SNAKEMAKES_OWN)
def test_snakemakes_own_console_takes_over_when_it_is_asked_for(run, capsys, asked):
    setattr(run.settings, asked, True)
    run.start()
    run.start_job(1, experiment="mlp")
    assert not run.handler.writes_to_stream
    assert shown(capsys) == []


REFUSED = (
    "SLURM sbatch failed. The error message was 'sbatch: error: {reason}\n"
    "sbatch: error: Batch job submission failed: {reason}'.\n    sbatch call:\n        sbatch --parsable\n"
    "For further error details see the cluster/cloud log and the log files of the involved rule(s)."
)


@pytest.mark.parametrize(
    ("reason", "key"),
    [
        ("Invalid account or account/partition combination specified", "set `account`"),
        ("invalid partition specified: gpu", "set `partition`"),
        ("Invalid qos specification", "qos=NAME"),
        ("Memory specification can not be satisfied", "--set-resources train:mem_mb=N"),
        ("CPU count per node can not be satisfied", "--set-threads train=N"),
        ("Requested time limit is invalid (missing or exceeds some limit)", "--set-resources train:runtime=MINUTES"),
        ("Invalid generic resource (gres) specification", "--set-resources train:gpu=0"),
        ("Requested node configuration is not available", "--set-threads train=N"),
        ("Something new", "sbatch --test-only"),
    ],
)
def test_a_refused_job_is_one_sentence_that_names_the_key_to_set(reason, key):
    (sentence,) = executor.plain(REFUSED.format(reason=reason), "train")
    assert sentence.startswith(f"Slurm refuses the job: {reason}: ")
    assert key in sentence
    said = f"Error submitting jobscript (exit code 1):\nsbatch: error: Batch job submission failed: {reason}\n"
    assert executor.plain(said, "train") == [sentence]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("CANCELLED", ["Slurm ended job 7 because somebody cancelled it"]),
        ("TIMEOUT", ["Slurm ended job 7 at its time limit; --set-resources tune:runtime=MINUTES raises it"]),
        ("FAILED", []),
    ],
)
def test_how_slurm_ended_a_job_is_said_unless_its_log_says_it(state, said):
    text = f"SLURM-job '7' failed, SLURM status is: '{state}'. Detailed failure reason unavailable."
    assert executor.plain(text, "tune") == said


def test_what_another_executor_says_stands_as_it_is():
    assert executor.plain("out of memory", "train") == ["out of memory"]

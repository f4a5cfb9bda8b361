"""What a person sees of a run: a line as a job starts, one as it ends, errors whole, nothing else."""

import re
import sys

import pytest

from tests.workflow.conftest import CONFIGURATION, copy_of_the_project

pytestmark = pytest.mark.slow

DIVERGING = """
model: {type: mlp, output_dim: 32, hidden_dim: 64}
loss: {type: infonce}
training: {batch_size: 64, num_epochs: 2, learning_rate: 1.0e+15}
"""
PROFILE = "Using workflow specific profile profiles/default for setting default command line arguments.\n"
WITHOUT_THE_PLUGIN = """
import importlib.util, sys
found = importlib.util.find_spec("snakemake_logger_plugin_frozenalign").submodule_search_locations[0]
sys.path.remove(found.removesuffix("/snakemake_logger_plugin_frozenalign"))
from snakemake.cli import main
main(["--cores", "1", "splits"])
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project in which one head trains and another diverges."""
    copy = copy_of_the_project(tmp_path_factory.mktemp("project"))
    copy.write("config/experiments/diverging.yaml", DIVERGING)
    heads = "experiments: [quick_test, diverging]"
    text = re.sub("^experiments: .*", heads, CONFIGURATION, flags=re.MULTILINE)
    copy.write("config/config.yaml", re.sub("^tuning: .*", "tuning: []", text, flags=re.MULTILINE))
    return copy


@pytest.fixture(scope="module")
def console(project) -> list[str]:
    """What `snakemake trained` prints, but for the line about the profile, which Snakemake prints in any case."""
    done = project.run("snakemake", "--cores", "1", "trained")
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr.removeprefix(PROFILE).splitlines()


def test_a_run_shows_a_line_as_a_job_starts_and_one_as_it_ends(console):
    encoding = ["encode images", "encode texts", "merge encodings"]
    jobs = ["demo data", *encoding, "split", "train quick_test, seed 0"]
    counts = []
    for job in jobs:
        ends = [re.fullmatch(rf"{job}: (?:.+, )?\d+ s · (\d) of 7(?:, .* left)?", line) for line in console]
        (end,) = [number for number, found in enumerate(ends) if found]
        assert console.index(job) < end
        counts.append(int(ends[end][1]))
    assert sorted(counts) == [1, 2, 3, 4, 5, 6]
    assert counts[:1] + counts[3:] == [1, 4, 5, 6]


def test_an_error_is_whole_and_shown_once(console, project):
    failed = "train diverging, seed 0"
    begin = console.index(failed)
    assert re.fullmatch(rf"{failed}: failed after \d+ s", console[begin + 1])
    log = "results/demo/logs/train-diverging-seed0.log"
    error = project.read(log).splitlines()[-1]
    assert error.startswith("error: the loss became ")
    assert console[begin + 2 : begin + 4] == [f"    {error}", f"    log: {log}"]


def test_nothing_else_is_shown(console):
    assert len(console) == 2 * 6 + 4 + 1
    assert re.fullmatch(r"6 of 7 jobs, \d+ s; 1 failed: train diverging, seed 0", console[-1])


@pytest.mark.usefixtures("console")
def test_nothing_to_be_done_is_one_line(project):
    done = project.run("snakemake", "--cores", "1", "splits")
    assert done.stderr == f"{PROFILE}Nothing to be done (all requested files are present and up to date).\n"


@pytest.mark.usefixtures("console")
@pytest.mark.parametrize("option", ["--verbose", "--printshellcmds"])
def test_snakemakes_own_console_is_an_option_away(project, option):
    done = project.run("snakemake", "--cores", "1", option, "splits")
    assert "Building DAG of jobs..." in done.stderr


@pytest.mark.usefixtures("console")
def test_a_dry_run_says_what_snakemake_says(project):
    done = project.run("snakemake", "-n", "trained")
    assert done.stderr == PROFILE
    for part in ("Job stats:", "reason: ", "This was a dry-run"):
        assert part in done.stdout


@pytest.mark.usefixtures("console")
def test_without_the_plugin_the_console_is_snakemakes_own(project):
    done = project.run(sys.executable, "-c", WITHOUT_THE_PLUGIN)
    assert done.returncode == 0
    assert "Building DAG of jobs..." in done.stderr


def test_a_mistake_in_the_configuration_is_one_sentence(project):
    done = project.run("snakemake", "--cores", "1", "--config", "device=tpu")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{PROFILE}error: configuration: device: found 'tpu'")
    assert done.stderr.count("\n") == 2

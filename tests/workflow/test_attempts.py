"""The second attempt of a job, as a cluster makes it in a process of its own, computes only what may end otherwise."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.conftest import Project

LOG = "results/demo/logs/split.log"


@pytest.fixture
def project(finished, tmp_path) -> Project:
    shutil.copytree(finished.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def second_attempt(project: Project, first_log: str) -> subprocess.CompletedProcess[str]:
    project.write(LOG, first_log)
    arguments = ["--cores", "1", "--attempt", "2", "--force", "--mode", "remote", "--nolock"]
    snakemake = str(Path(sys.executable).with_name("snakemake"))
    return project.run(snakemake, *arguments, "results/demo/split/manifest.json")


def test_a_mistake_ends_at_once_with_the_same_sentence(project):
    done = second_attempt(project, "10:00:00  reading\nerror: row 3 of the images is NaN: remove it\n")
    assert done.returncode == 1
    assert project.read(LOG) == "error: row 3 of the images is NaN: remove it\n"


@pytest.mark.parametrize(
    "log",
    [
        "10:00:00  reading\n",
        "error: out of memory: give the job more\n",
        "error: process 3 writes to results: wait for it, or stop it, then run the same command again\n",
    ],
    ids=["killed", "out of memory", "locked"],
)
def test_what_another_attempt_may_mend_is_computed_again(project, log):
    done = second_attempt(project, log)
    assert done.returncode == 0, done.stderr
    assert "found: " in project.read(LOG)


def test_apptainer_without_its_image_stops_before_any_job(project):
    done = project.run("snakemake", "--cores", "1", "--sdm", "apptainer", "-n")
    assert done.returncode == 1
    assert "frozenalign.sif, which is not there: build it with make image" in done.stdout

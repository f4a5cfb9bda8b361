"""Snakemake on a results folder that takes no file: one sentence before the first job, or after those that failed."""

import pytest

from tests.faults.conftest import SmallDisk
from tests.workflow.conftest import Project, copy_of_the_project


@pytest.fixture
def project(tmp_path, small_disk) -> Project:
    """A copy of the project whose results lie on the small disk."""
    copy = copy_of_the_project(tmp_path / "project")
    (copy.folder / "results").symlink_to(small_disk.folder)
    return copy


def refused(project: Project) -> str:
    done = project.run("snakemake", "--cores", "1", "splits")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in said
    assert "localrule" not in said
    return said


@pytest.mark.slow
def test_a_read_only_or_full_results_folder_stops_a_run_before_its_first_job(project, small_disk: SmallDisk):
    small_disk.remount("ro")
    assert "cannot write results: the file system is read-only: mount it for writing" in refused(project)
    assert "demo_data" in project.snakemake("-n", "splits")
    small_disk.remount("rw")
    small_disk.fill()
    said = refused(project)
    assert "cannot write results (at least 65,536 bytes needed, 0 bytes free)" in said
    assert "make room there, then run the same command again" in said


@pytest.mark.soak
def test_a_disk_that_jobs_filled_is_said_though_their_logs_are_empty(project, small_disk: SmallDisk):
    rule = project.read("workflow/rules/data.smk")
    filling = rule.replace('"{params.step:q}', '"head -c 2M /dev/zero > results/ballast; {params.step:q}')
    assert filling != rule
    project.write("workflow/rules/data.smk", filling)
    done = project.run("snakemake", "--cores", "1", "splits")
    assert done.returncode != 0
    assert "cannot write results (at least 65,536 bytes needed, 0 bytes free)" in done.stdout + done.stderr
    small_disk.make_room()
    project.write("workflow/rules/data.smk", rule)
    small_disk.remount("size=8m")
    project.snakemake("splits")

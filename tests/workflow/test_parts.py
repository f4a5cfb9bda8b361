"""Evaluations in parts, through Snakemake: the same files, byte for byte, as from one job."""

import shutil

import pytest

from tests.workflow.conftest import Project

pytestmark = pytest.mark.slow

# A head whose candidates are re-ranked, an ensemble and a baseline.
EVALUATED = [f"results/demo/{name}/seed0/evaluation_results" for name in ("pairs", "both", "cca")]
FILES = ["metrics.json", "ranks.npz", "samples.npz", "examples.json", "worst_queries.json"]
IN_PARTS = ("--config", "evaluation={parts: 2}")


def test_two_parts_give_the_files_of_one_job_byte_for_byte(finished, tmp_path):
    project = Project(tmp_path / "in parts")
    shutil.copytree(finished.folder, project.folder, symlinks=True)
    for folder in EVALUATED:
        shutil.rmtree(project.folder / folder)
    targets = [f"{folder}/metrics.json" for folder in EVALUATED]
    planned = project.stale_jobs(*targets, *IN_PARTS)
    assert planned == {"evaluate_part": 6, "evaluate": 2, "ensemble": 1}
    project.snakemake(*targets, *IN_PARTS)
    for folder in EVALUATED:
        for name in FILES:
            found, expected = ((each.folder / folder / name).read_bytes() for each in (project, finished))
            assert found == expected, f"{folder}/{name}"
    assert not list((project.folder / "results").rglob("counts.npz")), "the counts are added up and gone"
    assert project.stale_jobs(*targets, *IN_PARTS) == {}

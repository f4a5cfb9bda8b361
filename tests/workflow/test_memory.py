"""How much memory trainings that run side by side ask for: the rows that they share count once."""

import re

import pytest
import torch

from tests.workflow.conftest import copy_of_the_project

pytestmark = pytest.mark.slow
RUN = """
dataset: wide
datasets: {wide: {dir: data/wide}}
experiments: [linear]
baselines: [cca]
tuning: []
seeds: [0, 1, 2, 3, 4, 5, 6, 7]
"""
ROWS_MB = 800


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Return a function that gives the MB of each of eight trainings on 800 MB of rows, for arguments of Snakemake."""
    project = copy_of_the_project(tmp_path_factory.mktemp("memory"))
    project.write("config/config.yaml", RUN)
    folder = project.folder / "data/wide"
    folder.mkdir(parents=True)
    for modality in ("image", "text"):
        path = folder / f"train2017_{modality}_embeddings.pt"
        torch.save(torch.zeros(2, 16), path)
        with path.open("ab") as stream:
            # A file with a hole, whose size alone is read to plan.
            stream.truncate(ROWS_MB * 500_000)
    (folder / "train2017_metadata.json").write_text("{}")

    def asked_for(*arguments: str) -> list[int]:
        done = project.run("snakemake", "-n", *arguments, "--", "trained")
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        parts = re.split(r"rule (\w+):", said)
        rules = zip(parts[1::2], parts[2::2], strict=True)
        return [int(re.search(r"mem_mb=(\d+)", text)[1]) for name, text in rules if name == "train"]

    return asked_for


def test_of_trainings_that_cores_let_run_together_each_answers_for_its_part_of_the_rows(asked):
    alone = asked("--cores", "1")
    assert asked("--cores", "8") == [alone[0] - ROWS_MB + ROWS_MB // 8] * 8


def test_where_memory_lets_fewer_run_all_that_run_fit(asked):
    own = asked("--cores", "1")[0] - ROWS_MB
    each = asked("--cores", "8", "--resources", f"mem_mb={3 * own + ROWS_MB + 10}")
    assert each == [own + -(-ROWS_MB // 3)] * 8

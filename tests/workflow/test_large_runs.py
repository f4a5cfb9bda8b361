"""Runs of many heads: what planning computes once, and commands that are longer than a shell takes."""

import pstats
import shutil
import subprocess
import sys

import pytest

from tests.workflow.conftest import ROOT, copy_of_the_project

pytestmark = pytest.mark.slow
HEADS = 60
OWN = """
dataset: mine
datasets: {mine: {dir: data/mine, split: {fractions: {train: 0.5, val: 0.25, test: 0.25}}}}
experiments: [quick_test]
baselines: [cca]
tuning: []
seeds: [0, 1, 2, 3]
"""
MANY = f"""
include: "{ROOT}/Snakefile"
rule many:
    input: many_histories
    log: "many.log"
    params:
        step=step("curves"),
        runs=lambda wildcards, input: listed(folders_of(input)),
    shell: "{{params.step:q}} --runs {{params.runs:q}} > {{log}} 2>&1"
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory, data_dir) -> dict[tuple[str, str], int]:
    """How often each function, by file and name, is called while a run of 60 heads on a user's data is planned."""
    project = copy_of_the_project(tmp_path_factory.mktemp("large"))
    variants = "".join(f"    noise_{i}: {{training.noise: {i / 100}}}\n" for i in range(HEADS // 4 - 1))
    project.write("config/config.yaml", f"{OWN}variants:\n  quick_test:\n{variants}")
    shutil.copytree(data_dir, project.folder / "data/mine")
    profiled = project.run(sys.executable, "-m", "cProfile", "-o", "calls", "-m", "snakemake", "-n")
    assert profiled.returncode == 0, profiled.stderr
    assert f"train           {HEADS}\n" in profiled.stdout + profiled.stderr
    counts = {}
    for (file, _, name), (_, total, *_) in pstats.Stats(str(project.folder / "calls")).stats.items():
        key = file.rpartition("/")[2], name
        counts[key] = counts.get(key, 0) + total
    return counts


def test_what_is_the_same_for_all_jobs_is_computed_once(calls):
    once = {
        ("variants.py", "variants_of"): 3,  # To check the names, to check the files, for the rules.
        ("given_files.py", "present_hashes"): 1,
        ("given_files.py", "link_to"): 6,
        ("given_files.py", "pairs_hash"): 2,  # For the parameter of the split, and among the present files.
    }
    assert {key: calls[key] for key in once} == once


def test_a_file_that_a_job_needs_is_compared_with_few_outputs(calls):
    looked_up = calls["output_index.py", "match_producers"]
    assert looked_up > 20 * HEADS
    assert calls["prefix_lookup.py", "match_iter"] < 60 * looked_up


def test_runs_that_fill_more_than_a_command_line_reach_a_script(finished, tmp_path):
    source = finished.folder / "results/demo/quick_test/seed0"
    folders = [tmp_path / "results" / ("long-name-" * 10) / f"seed{i}" for i in range(1200)]
    for folder in folders:
        folder.mkdir(parents=True)
        for name in ("loss_history.json", "resolved_config.yaml", "training_curves.png"):
            (folder / name).hardlink_to(source / name)
    words = " ".join(map(str, folders))
    assert len(words) > 128 << 10
    with pytest.raises(OSError, match="too long"):
        subprocess.run(["bash", "-c", f": {words}"], check=False)
    histories = [str(folder / "loss_history.json") for folder in folders]
    finished.write("many.smk", f"many_histories = {histories}\n{MANY}")
    finished.snakemake("-s", "many.smk", "many")
    assert finished.read("many.log").endswith("found: drew 0 of 1200 pictures\n")
    for name in ("many.smk", "many.log"):
        (finished.folder / name).unlink()


def test_a_list_of_runs_is_known_by_its_content_and_a_missing_run_draws_and_reports_anew(finished):
    lists = finished.folder / ".snakemake/arguments"
    texts = {path.read_text() for path in lists.iterdir()}
    assert "results/demo/tuning/short\n" in texts
    shutil.rmtree(lists)
    assert finished.stale_jobs() == {}
    assert finished.stale_jobs("--config", "baselines=[cca]") == {"figures": 1, "report": 1}
    assert finished.stale_jobs() == {}

"""config/coco.yaml plans its whole run on files in COCO's layout."""

from tests.benchmarks.coco.input_files import write_planted
from tests.benchmarks.coco.planted import Planted
from tests.workflow.conftest import copy_of_the_project

HEADS, SEEDS, BASELINES, STUDIES = 8, 3, 3, 1


def test_the_plan_has_every_head_and_seed_and_takes_the_experiments_for_large_data(tmp_path):
    project = copy_of_the_project(tmp_path)
    # The widths differ, so that the plan leaves raw cosines out.
    write_planted(project.folder / "data/pretrain_encoded", Planted(30, 6, 8))
    trained = (HEADS + STUDIES) * SEEDS
    planned = project.stale_jobs("--configfile", "config/coco.yaml")
    assert {name: planned[name] for name in ("split", "baselines", "train", "evaluate", "tune_best", "report")} == {
        "split": 1,
        "baselines": 1,
        "train": trained,
        "evaluate": trained + BASELINES,
        "tune_best": STUDIES,
        "report": 1,
    }
    said = project.snakemake("-n", "-p", "--configfile", "config/coco.yaml")
    assert "--experiment=config/experiments/coco/mlp.yaml" in said
    assert "--experiment=config/experiments/mlp.yaml" not in said

"""A run may take its experiments from a folder in config/experiments/; their results keep their names."""

from pathlib import Path

import pytest

from frozenalign.configuration.experiments import load_experiment
from frozenalign.configuration.runs import checked_files, checked_run, experiment_file
from frozenalign.system.errors import UserError

ROOT = Path(__file__).parents[3]
EXPERIMENT = "model: {{type: mlp, output_dim: 8, hidden_dim: {}}}\nloss: {{type: infonce}}\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "experiments" / "large").mkdir(parents=True)
    for name, width in (("experiments/a", 16), ("experiments/b", 16), ("experiments/large/a", 64)):
        (tmp_path / f"{name}.yaml").write_text(EXPERIMENT.format(width))
    return tmp_path


def widths(folder: Path, **keys) -> dict[str, int]:
    """Return the hidden widths of a run's experiments by name."""
    document = {"dataset": "a", "datasets": {"a": {"dir": "data/a"}}, "experiments": ["a", "b"]}
    found = checked_files(checked_run(document | keys, "configuration"), [folder]).experiments
    return {name: experiment.model["hidden_dim"] for name, experiment in found.items()}


def test_a_file_in_the_folder_is_taken_instead_of_the_one_beside_it(folder):
    assert widths(folder, experiment_folder="large") == {"a": 64, "b": 16}


def test_without_a_folder_no_file_in_one_is_taken(folder):
    assert widths(folder) == widths(folder, experiment_folder=None) == {"a": 16, "b": 16}


def test_a_variant_changes_the_file_in_the_folder(folder):
    found = widths(folder, experiment_folder="large", variants={"a": {"bare": {"model.skip": "none"}}})
    assert found["a-bare"] == 64


def test_the_folder_of_the_user_comes_first(folder, tmp_path):
    own = tmp_path / "own"
    (own / "experiments" / "large").mkdir(parents=True)
    (own / "experiments" / "large" / "b.yaml").write_text(EXPERIMENT.format(128))
    run = {"experiment_folder": "large"}
    assert experiment_file(run, "b", [own, folder]) == own / "experiments" / "large" / "b.yaml"
    assert experiment_file(run, "a", [own, folder]) == folder / "experiments" / "large" / "a.yaml"


def test_a_folder_that_does_not_exist_is_named(folder):
    with pytest.raises(UserError, match=r"experiment_folder: .*experiments/small not found"):
        widths(folder, experiment_folder="small")


def test_a_folder_elsewhere_is_refused(folder):
    with pytest.raises(UserError, match="experiment_folder"):
        widths(folder, experiment_folder="../experiments")


def test_every_experiment_has_a_file_for_large_data_with_the_same_head():
    shipped = ROOT / "config" / "experiments"
    large = {path.name: load_experiment(path) for path in (shipped / "coco").glob("*.yaml")}
    small = {path.name: load_experiment(path) for path in shipped.glob("*.yaml") if path.name != "quick_test.yaml"}
    assert {name: each.model["type"] for name, each in large.items()} == {
        name: each.model["type"] for name, each in small.items()
    }
    assert all(large[name].training.batch_size > small[name].training.batch_size for name in small)

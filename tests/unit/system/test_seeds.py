"""Numbers that are given to a script by hand are refused like those of the configuration."""

import importlib
import json

import pytest

from frozenalign.system.errors import UserError
from workflow.scripts.split import main as split

FOLDERS = ["--data-dir", "absent", "--output-dir", "out"]
COUNTS = ["--counts", '{"train": 40, "val": 10, "test": 10}']
SEEDED = {
    "split": ["--dataset", "small", *COUNTS],
    "train": ["--experiment", "absent.yaml", "--split-dir", "absent"],
    "baselines": ["--baselines", "ridge", "--split-dir", "absent"],
}


@pytest.mark.parametrize("name", SEEDED)
def test_a_negative_seed_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = importlib.import_module(f"workflow.scripts.{name}")
    with pytest.raises(UserError, match=r"^--seed is -1: take 0 or a larger whole number$"):
        script.main([*SEEDED[name], *FOLDERS, "--seed", "-1"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "shares", "said"),
    [
        ("--fractions", (0.8, 0.2, 0.1), "they add up to more than 1: lower them to at most 1 in all"),
        ("--fractions", (10**400, 0.1, 0.1), "they add up to more than 1: lower them to at most 1 in all"),
        ("--counts", (40, 10.5, 10), "val is 10.5: write a whole number of images"),
        ("--counts", (40, 10, 0), "test is 0: write a number above 0"),
    ],
)
def test_shares_that_cannot_be_are_refused(option, shares, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = json.dumps(dict(zip(("train", "val", "test"), shares, strict=True)))
    with pytest.raises(UserError, match=rf": {said}$"):
        split(["--dataset", "small", *FOLDERS, option, text])
    assert list(tmp_path.iterdir()) == []


def test_fractions_that_add_up_to_1_but_for_rounding_and_counts_with_a_point_are_taken(data_dir, tmp_path):
    for option, text in (
        ("--fractions", '{"train": 0.7, "val": 0.1, "test": 0.2}'),
        ("--counts", '{"train": 40.0, "val": 1e1, "test": 10}'),
    ):
        output = tmp_path / option
        split(["--dataset", "small", "--data-dir", str(data_dir), "--output-dir", str(output), option, text])
        assert (output / "manifest.json").exists()

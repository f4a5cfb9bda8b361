"""config/README.md is the guide written by hand, then what the schemas and the registered classes say."""

import re
from pathlib import Path

import pytest

from frozenalign.configuration.experiments import load_experiment
from frozenalign.configuration.reference import configuration_reference
from frozenalign.configuration.registrations import baselines, heads, losses
from frozenalign.configuration.runs import checked_run
from frozenalign.configuration.variants import variants_of
from frozenalign.configuration.yaml_text import parse_yaml

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "config"
README = CONFIG / "README.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def rows() -> list[str]:
    tables = configuration_reference().partition("# All keys")[2]
    return [line for line in tables.splitlines() if line.startswith("| `")]


def test_the_committed_reference_is_up_to_date():
    assert README.read_text(encoding="utf-8") == configuration_reference(), "run `make reference`"


def test_every_key_has_a_meaning():
    assert len(rows()) > 60
    for row in rows():
        assert not row.endswith("|  |"), f"without a description: {row}"


def test_no_regular_expression_shows():
    for row in rows():
        assert "^" not in row, row
        assert "matching" not in row, row
    assert rows()[0].startswith("| `dataset` | a name: letters, digits, `_`, `.`, `-`; at most 64 characters |")


def test_defaults_are_shown_as_a_yaml_file_has_them():
    reference = configuration_reference()
    assert "| `datasets.NAME.generate.seed` | an integer ≥ 0 | `0` |" in reference
    assert "| `training.gradient_clip` | a number ≥ 0 | `1.0` |" in reference
    assert "| `loss.momentum` | a number ≥ 0 < 1 or nothing (null) | `null` |" in reference


def test_every_head_loss_and_baseline_is_named_with_what_it_is():
    reference = configuration_reference()
    for item in [*heads().values(), *losses().values(), *baselines().values()]:
        assert f"`{item.name}`" in reference
        assert item.description in reference


def test_the_guide_has_six_examples():
    assert len(EXAMPLES) == 6


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_is_a_valid_run_of_files_that_exist(text):
    run = checked_run(parse_yaml(text, "the example"), "the example")
    for name in run["experiments"]:
        load_experiment(CONFIG / "experiments" / f"{name}.yaml")
    for variant in variants_of(run):
        load_experiment(CONFIG / "experiments" / f"{variant.base}.yaml", variant.changes)
    for name in run["tuning"]:
        assert (CONFIG / "tuning" / f"{name}.yaml").is_file()

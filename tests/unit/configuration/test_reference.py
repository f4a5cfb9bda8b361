"""config/README.md is what the schemas and the registered classes say."""

from pathlib import Path

from frozenalign.configuration.reference import configuration_reference
from frozenalign.configuration.registrations import baselines, heads, losses

ROOT = Path(__file__).parents[3]


def test_the_committed_reference_is_up_to_date():
    assert (ROOT / "config" / "README.md").read_text() == configuration_reference(), "run `make reference`"


def test_every_key_has_a_meaning():
    rows = [line for line in configuration_reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    for row in rows:
        assert not row.endswith("|  |"), f"without a description: {row}"


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

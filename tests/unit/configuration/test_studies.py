"""Studies: every shipped one is as promised, and every mistake in one is named."""

from pathlib import Path

import pytest

from frozenalign.configuration.registrations import heads
from frozenalign.configuration.runs import checked_run
from frozenalign.configuration.studies import load_study
from frozenalign.configuration.yaml_text import read_yaml
from frozenalign.system.errors import UserError

CONFIG = Path(__file__).parents[3] / "config"
STUDY = """
trials: 5
base: {model: {type: mlp}, loss: {type: clip}}
search_space:
  - {key: training.learning_rate, type: float, low: 1e-4, high: 1e-2, log: true}
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("training.learning_rate", "training.learning_speed", "unknown key 'training.learning_speed'"),
        ("low: 1e-4", "low: -1.0", "`log` needs `low` above 0"),
        ("high: 1e-2", "high: 1e-9", "needs `low` ≤ `high`"),
        ("type: float, low: 1e-4, high: 1e-2, log: true", "type: categorical", "needs `choices`"),
        ("training.learning_rate, type: float", "training.batch_size, type: int", "training.batch_size.*found 0.0001"),
        ("type: float", "type: float, name: value", "'value' is a column of trials.csv"),
        ("type: clip", "type: clap", "base: loss.type: found 'clap'"),
        ("trials: 5", "trials: 0", "trials: found 0"),
        ("clip}}", "clip}, training: {devices: 2}}", "base: training.devices: a trial has one device"),
        (
            "learning_rate, type: float, low: 1e-4, high: 1e-2, log: true",
            "devices, type: int, low: 1, high: 2",
            "a trial has one device, so that training.devices cannot vary: leave it out",
        ),
        (
            "learning_rate, type: float, low: 1e-4, high: 1e-2, log: true",
            "monitor, type: categorical, choices: [RSUM, t2i R@1]",
            "trials are compared by training.monitor, so that it cannot vary: set it in `base`",
        ),
        (
            "learning_rate, type: float, low: 1e-4, high: 1e-2, log: true",
            "num_epochs, type: float, low: 2, high: 9",
            r"\(training.num_epochs\): the key takes whole numbers: write `type: int`",
        ),
        (
            "learning_rate, type: float, low: 1e-4, high: 1e-2, log: true",
            "num_epochs, type: int, low: 2, high: 9, step: 1.5",
            r"\(training.num_epochs\): step: found 1.5; allowed with `type: int`: whole numbers",
        ),
        (
            "training.learning_rate, type: float, low: 1e-4, high: 1e-2, log: true",
            "model.dropout, type: categorical, choices: [0.0, 1.2]",
            r"\(model.dropout\): found 1.2; allowed: a number ≥ 0 < 1$",
        ),
        (
            "log: true",
            "log: true, when: {model.tipe: [mlp]}",
            r"when: unknown key 'model.tipe'; did you mean model.type\?",
        ),
        ("log: true", "log: true, when: {head: [mlp]}", "when: unknown key 'head'"),
        ("log: true", "log: true, when: {model.type: [mpl]}", r"when \(model.type\): found 'mpl'; allowed: align,"),
        ("log: true", "log: true, when: {training.batch_size: [few]}", r"when \(training.batch_size\): found 'few'"),
    ],
)
def test_mistakes_in_a_study(tmp_path, old, new, said):
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace(old, new))
    with pytest.raises(UserError, match=said):
        load_study(path)


def test_the_studies_have_the_promised_budgets():
    files = [path for path in (CONFIG / "tuning").glob("*.yaml") if not path.stem.startswith("compare_")]
    budgets = {path.stem: load_study(path).trials for path in files}
    assert {**budgets, "quick": 0} == {
        "default": 150,
        "coco": 150,
        "siglip": 50,
        "clip": 50,
        "attention": 75,
        "mlp": 40,
        "quick": 0,
    }


def test_the_studies_of_a_comparison_have_one_budget():
    run = checked_run(read_yaml(CONFIG / "compare.yaml"), "compare")
    studies = [load_study(CONFIG / "tuning" / f"{name}.yaml") for name in run["tuning"]]
    budgets = {(study.trials, study.seconds, study.data, str(study.base["training"])) for study in studies}
    assert len(budgets) == 1
    assert {study.base["model"]["type"] for study in studies} == set(heads())
    assert len(run["seeds"]) >= 3

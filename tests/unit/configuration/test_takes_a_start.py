"""Which heads and studies take the file of the CCA: those that start from it, or whiten their rows by its axes."""

import pytest

from frozenalign.configuration.experiments import Experiment, experiment_from
from frozenalign.configuration.runs import RunFiles
from frozenalign.configuration.studies import Study, load_study


def head(model: dict | None = None, **training) -> Experiment:
    document = {"model": {"type": "mlp", **(model or {})}, "loss": {"type": "clip"}, "training": training}
    return experiment_from(document, "test")


@pytest.mark.parametrize(
    ("experiment", "takes"),
    [
        (head(), False),
        (head({"skip": "cca"}), True),
        (head({"type": "linear", "init": "cca"}), True),
        (head(noise="auto"), True),
        (head({"whitening": "pca"}), True),
        (head({"whitening": "zca"}, control="shuffled_pairs"), False),
    ],
    ids=["plain", "skip", "init", "noise", "whitening", "a control of its own pairs"],
)
def test_a_head_takes_the_file_of_the_cca_if_it_is_derived_from_it(experiment, takes):
    assert RunFiles({"head": experiment}, {}).takes_a_start("head") == takes


@pytest.fixture
def study(tmp_path):
    def make(base: str, entry: str) -> Study:
        path = tmp_path / "study.yaml"
        space = f"search_space: [{{key: {entry}}}]"
        path.write_text(f"trials: 3\nbase: {{model: {{type: mlp{base}}}, loss: {{type: clip}}}}\n{space}\n")
        return load_study(path)

    return make


@pytest.mark.parametrize(
    ("base", "entry", "takes"),
    [
        ("", "model.hidden_dim, type: int, low: 8, high: 16", False),
        ("", "model.skip, type: categorical, choices: [none, cca]", True),
        ("", "model.whitening, type: categorical, choices: [none, zca]", True),
        (", whitening: pca", "model.hidden_dim, type: int, low: 8, high: 16", True),
    ],
    ids=["plain", "skip", "whitening", "a base that whitens"],
)
def test_a_study_takes_it_if_one_of_its_trials_may(study, base, entry, takes):
    assert RunFiles({}, {"study": study(base, entry)}).takes_a_start("study") == takes

"""Variants: an experiment with some keys changed, checked like its file, under a name of its own."""

import json
from pathlib import Path

import pytest

from frozenalign.configuration.experiments import load_experiment
from frozenalign.configuration.runs import checked_files, checked_run
from frozenalign.configuration.variants import changed, changes_from, variants_of
from frozenalign.configuration.yaml_text import read_yaml
from frozenalign.models.model_file import load_heads
from frozenalign.system.errors import UserError
from workflow.scripts.train import main as train

BASE = """
model: {type: mlp, output_dim: 8, hidden_dim: 16}
loss: {type: infonce}
training: {batch_size: 16, num_epochs: 1}
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "base.yaml").write_text(BASE)
    return tmp_path


def checked(variants: dict, folder: Path, **others) -> dict:
    document = {"dataset": "a", "datasets": {"a": {"dir": "data/a"}}, "experiments": ["base"], "variants": variants}
    run = checked_run(document | others, "configuration")
    checked_files(run, [folder])
    return run


def test_a_variant_is_named_after_its_base_and_itself(folder):
    (found,) = variants_of(checked({"base": {"narrow": {"model.hidden_dim": 4}}}, folder))
    assert (found.experiment, found.base, found.changes) == ("base-narrow", "base", {"model.hidden_dim": 4})


def test_a_run_has_no_variants_unless_it_names_some(folder):
    run = checked_run({"dataset": "a", "datasets": {"a": {"dir": "data/a"}}}, "configuration")
    assert variants_of(run) == []


def test_only_the_named_keys_change(folder):
    path = folder / "experiments" / "base.yaml"
    before = load_experiment(path).as_document()
    after = load_experiment(path, {"model.skip": "cca", "training.batch_size": 32}).as_document()
    assert after["model"] == before["model"] | {"skip": "cca"}
    assert after["training"] == before["training"] | {"batch_size": 32}
    assert after["loss"] == before["loss"]


def test_a_section_that_the_file_leaves_out_can_be_changed():
    document = {"model": {"type": "mlp"}}
    assert changed(document, {"training.num_epochs": 3})["training"] == {"num_epochs": 3}
    assert document == {"model": {"type": "mlp"}}


def test_values_that_snakemake_passes_as_text_are_read_as_in_a_file(folder):
    changes = {"training.learning_rate": "1e-4", "training.batch_size": "32", "model.skip": "none"}
    (found,) = variants_of(checked({"base": {"slow": changes}}, folder))
    assert found.changes == {"training.learning_rate": 1e-4, "training.batch_size": 32, "model.skip": "none"}


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("model.skip=none", {"model.skip": "none"}),
        ("training.learning_rate=1e-4", {"training.learning_rate": 1e-4}),
        ("model.learnable_temp=false", {"model.learnable_temp": False}),
        ("model.hidden_dim=null", {"model.hidden_dim": None}),
        ('{"model.dropout": 0.5, "loss.temperature": 1e-05}', {"model.dropout": 0.5, "loss.temperature": 1e-5}),
    ],
)
def test_changes_on_a_command_line_follow_the_number_rules_of_the_files(text, changes):
    assert changes_from(text) == changes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model.skip", "there is no value: write KEY=VALUE"),
        ("skip=none", "found 'skip'"),
        ("model.skip=[", "is not valid YAML"),
        ("{}", "found {}"),
    ],
)
def test_changes_that_are_refused_on_a_command_line(text, said):
    with pytest.raises(UserError, match=said):
        changes_from(text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.dropuot": 0.5}, ["model.dropuot", "did you mean dropout?"]),
        ({"model.dropout": "much"}, ["model.dropout", "found 'much' (text)", "a number ≥ 0 < 1"]),
        ({"training.batch_size": 1}, ["training.batch_size", "found 1", "an integer ≥ 2"]),
        ({"model.type": "blip"}, ["model.type", "'blip' keeps momentum copies"]),
        ({"training.speed": 1}, ["training.speed", "unknown key 'speed'"]),
    ],
)
def test_a_change_is_checked_like_the_file_and_named_with_its_variant(changes, said, folder):
    with pytest.raises(UserError) as caught:
        checked({"base": {"odd": changes}}, folder)
    message = str(caught.value)
    assert message.startswith("variants.base.odd: ")
    assert "base.yaml" in message
    assert "\n" not in message
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("variants", "others", "said"),
    [
        ({"other": {"x": {"model.skip": "cca"}}}, {}, "variants: found 'other'; allowed: base"),
        ({"base": {"x": {"skip": "cca"}}}, {}, "variants.base.x: found 'skip'"),
        ({"base": {"x": {"model.skip": "["}}}, {}, "variants.base.x.model.skip is not valid YAML"),
        ({"base": {"x": {}}}, {}, "variants.base.x: found {}"),
        ({"base": {"a/b": {"model.skip": "cca"}}}, {}, "variants.base: found 'a/b'"),
        (
            {"base": {"x": {"model.skip": "cca"}}},
            {"experiments": ["base", "base-x"]},
            "another result is named 'base-x' as well",
        ),
        (
            {"tuned": {"x": {"model.skip": "cca"}}},
            {"experiments": ["tuned"], "tuning": ["x"]},
            "another result is named 'tuned-x' as well",
        ),
        (
            {"base": {"x-y": {"model.skip": "cca"}}, "base-x": {"y": {"model.skip": "cca"}}},
            {"experiments": ["base", "base-x"]},
            "another result is named 'base-x-y' as well",
        ),
    ],
)
def test_variants_that_a_run_cannot_hold(variants, others, said, folder):
    with pytest.raises(UserError, match=said):
        checked(variants, folder, **others)


def test_a_variant_never_takes_the_folder_of_a_written_experiment(folder):
    (folder / "experiments" / "base-x.yaml").write_text(BASE)
    with pytest.raises(UserError, match=r"would overwrite those of .*base-x.yaml"):
        checked({"base": {"x": {"model.skip": "cca"}}}, folder)


def test_the_results_of_a_variant_hold_what_it_was_trained_with(folder, data_dir, split_dir, tmp_path):
    values = ["--experiment", folder / "experiments" / "base.yaml", "--name", "base-narrow", "--device", "cpu"]
    values += ["--data-dir", data_dir, "--split-dir", split_dir, "--output-dir", tmp_path / "run"]
    values += ["--set", "model.hidden_dim=4", "--set", json.dumps({"training.learning_rate": 1e-05})]
    train([str(value) for value in values])
    settings = read_yaml(tmp_path / "run" / "resolved_config.yaml")
    assert (settings["experiment"], settings["kind"], settings["base"]) == ("base-narrow", "variant", "base")
    assert settings["changes"] == {"model.hidden_dim": 4, "training.learning_rate": 1e-5}
    assert (settings["model"]["hidden_dim"], settings["training"]["learning_rate"]) == (4, 1e-5)
    model, facts = load_heads(tmp_path / "run" / "best_model.pt")
    assert facts["settings"]["model"] == settings["model"]
    assert model.image_tower[0].out_features == 4

"""A mistake in a configuration stops the run before any job, in one sentence."""

import pytest

from tests.workflow.conftest import copy_of_the_project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_of_the_project(tmp_path_factory.mktemp("project"))


def refusal(project, *arguments: str) -> str:
    done = project.run("snakemake", "--cores", "1", "-n", *arguments)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in said
    assert "Job stats" not in said
    return said


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("seed=3", ["unknown key 'seed'", "did you mean seeds?"]),
        ("device=tpu", ["device: found 'tpu'", "auto, cpu, cuda, mps"]),
        ("dataset=coco", ["dataset: found 'coco'", "allowed: demo"]),
        ("experiments=[absent]", ["config/experiments/absent.yaml not found"]),
        ("tuning=[absent]", ["config/tuning/absent.yaml not found"]),
        ("baselines=[magic]", ["baselines: found 'magic'", "cca"]),
        ("ensembles={both: [absent]}", ["ensembles.both: found 'absent'", "allowed: quick_test, pairs, tuned-short"]),
        ("variants={quick_test: {odd: {model.hiden_dim: 3}}}", ["variants.quick_test.odd", "did you mean hidden_dim?"]),
    ],
)
def test_a_mistake_in_the_run_is_named_with_what_is_allowed(project, setting, said):
    message = refusal(project, "--config", setting)
    for part in said:
        assert part in message


def test_a_mistake_in_an_experiment_file_names_the_file_and_the_key(project):
    project.write("config/experiments/odd.yaml", "model: {type: mlp, hiden_dim: 3}\nloss: {type: clip}\n")
    message = refusal(project, "--config", "experiments=[odd]")
    assert "config/experiments/odd.yaml" in message
    assert "unknown key 'hiden_dim'" in message


def test_data_that_are_not_there_are_named(project):
    project.write(
        "config/own.yaml", "dataset: own\ndatasets: {own: {dir: data/own}}\nexperiments: [quick_test]\ntuning: []\n"
    )
    message = refusal(project, "--configfile", "config/own.yaml")
    assert "data/own/train2017_image_embeddings.pt" in message

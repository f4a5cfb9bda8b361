"""Ensembles: the similarity is the mean of the members', one member is that member, the script adds up their facts."""

import json
import shutil

import pytest
import torch

from frozenalign.configuration.yaml_text import read_yaml
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.models.ensemble import Ensemble
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_json
from frozenalign.system.finished import KEPT
from workflow.scripts.baselines import main as baselines
from workflow.scripts.ensemble import main as ensemble
from workflow.scripts.evaluate import main as evaluate
from workflow.scripts.report import main as report
from workflow.scripts.train import main as train

EXPERIMENT = {
    "model": {"type": "mlp", "output_dim": 5, "hidden_dim": 16},
    "loss": {"type": "infonce"},
    "training": {"num_epochs": 1, "batch_size": 16},
}


def new_model(seed: int, output_dim: int) -> DualEncoder:
    torch.manual_seed(seed)
    return DualEncoder({"type": "linear", "output_dim": output_dim}, 12, 9).eval()


@torch.no_grad()
def similarity(model: DualEncoder | Ensemble, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    return model.encode_images(images) @ model.encode_texts(texts).T


@pytest.mark.parametrize("widths", [(6, 6), (3, 7, 20)])
def test_the_similarity_is_the_mean_of_the_members(widths):
    members = [new_model(seed, width) for seed, width in enumerate(widths)]
    images, texts = torch.randn(30, 12), torch.randn(70, 9)
    joint = Ensemble(members)
    expected = torch.stack([similarity(member, images, texts) for member in members]).mean(0)
    torch.testing.assert_close(similarity(joint, images, texts), expected)
    with torch.no_grad():
        torch.testing.assert_close(joint.encode_images(images).norm(dim=1), torch.ones(30))
        torch.testing.assert_close(joint.encode_texts(texts).norm(dim=1), torch.ones(70))


@torch.no_grad()
def test_penalties_for_hubs_are_left_out_member_by_member():
    penalised = {"type": "linear", "output_dim": 7, "hub_prototypes": 3, "hub_temperature": 0.1}
    members = [new_model(0, 5), DualEncoder(penalised, 12, 9).eval()]
    images = torch.randn(30, 12)
    alone = [member.without_hub_penalty(member.encode_images(images)) for member in members]
    joint = Ensemble(members)
    expected = torch.cat(alone, dim=1) / 2**0.5
    torch.testing.assert_close(joint.without_hub_penalty(joint.encode_images(images)), expected)


def test_one_member_is_that_member():
    member, images, texts = new_model(0, 6), torch.randn(30, 12), torch.randn(70, 9)
    assert torch.equal(similarity(Ensemble([member]), images, texts), similarity(member, images, texts))


def test_arrays_one_row_and_no_rows_are_taken_as_by_a_member():
    joint = Ensemble([new_model(seed, 6).requires_grad_(False) for seed in (0, 1)])
    images = torch.randn(4, 12)
    many = joint.encode_images(images)
    assert torch.equal(joint.encode_images(images.numpy()), many)
    torch.testing.assert_close(joint.encode_images(images[0].numpy()), many[0])
    assert joint.encode_texts(torch.randn(0, 9)).numpy().shape == (0, 12)
    with pytest.raises(UserError, match="takes text embeddings as numbers in a dense torch tensor or a NumPy array"):
        joint.encode_texts([[1.0] * 9])


@pytest.fixture(scope="module")
def trained(data_dir, split_dir, tmp_path_factory):
    """The run folders of one small head with two seeds, and of a baseline."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(json.dumps(EXPERIMENT))
    places = ["--data-dir", data_dir, "--split-dir", split_dir]
    for seed in (0, 1):
        own = ["--experiment", folder / "small.yaml", "--seed", seed, "--device", "cpu"]
        train([str(value) for value in [*own, *places, "--output-dir", folder / f"small{seed}"]])
    own = ["--baselines", "ridge", "--output-dir", folder]
    baselines([str(value) for value in [*own, *places]])
    (folder / "ridge" / "seed0").rename(folder / "ridge0")
    return folder


@pytest.fixture
def together(trained, data_dir, split_dir, tmp_path):
    """Evaluate runs as an ensemble and return its folder."""

    def evaluated(*names: str):
        models = [trained / name / "best_model.pt" for name in names]
        where = ["--data-dir", data_dir, "--split-dir", split_dir, "--output-dir", tmp_path / "both", "--device", "cpu"]
        ensemble([str(value) for value in ["--name", "both", "--models", *models, *where]])
        return tmp_path / "both"

    return evaluated


def test_the_facts_are_those_of_the_members_added_up(together, trained):
    folder = together("small0", "small1", "ridge0")
    members = [read_json(trained / name / "run.json") for name in ("small0", "small1", "ridge0")]
    found = read_json(folder / "run.json")
    for name in ("parameters", "seconds"):
        assert found[name] == pytest.approx(sum(member[name] for member in members))
    assert read_yaml(folder / "resolved_config.yaml") == {
        "format": 1,
        "experiment": "both",
        "kind": "ensemble",
        "seed": 0,
        "ensemble": {
            "members": [
                {"experiment": "small", "seed": 0},
                {"experiment": "small", "seed": 1},
                {"experiment": "ridge", "seed": 0},
            ]
        },
    }


def test_a_model_given_twice_is_refused(together, trained):
    shutil.copytree(trained / "small1", trained / "copy", dirs_exist_ok=True)
    with pytest.raises(
        UserError, match=r"--models: \S*/copy/best_model.pt holds the same model as \S*/small1/best_mod"
    ):
        together("small1", "small0", "copy")


def test_an_ensemble_older_than_its_retrained_member_is_refused_beside_it(trained, data_dir, split_dir, tmp_path):
    places = ["--data-dir", data_dir, "--split-dir", split_dir]
    run = tmp_path / "small" / "seed0"

    def train_with(settings: dict) -> None:
        (tmp_path / "small.yaml").write_text(json.dumps(settings))
        own = ["--experiment", tmp_path / "small.yaml", "--output-dir", run, "--device", "cpu"]
        train([str(value) for value in [*own, *places]])
        own = ["--model", run / "best_model.pt", "--output-dir", run / "evaluation_results", "--device", "cpu"]
        evaluate([str(value) for value in [*own, *places]])

    def put_together() -> None:
        own = ["--name", "both", "--models", run / "best_model.pt", trained / "ridge0" / "best_model.pt"]
        ensemble([str(value) for value in [*own, *places, "--output-dir", tmp_path / "both", "--device", "cpu"]])

    def write_report() -> None:
        own = ["--dataset-name", "small", "--data-dir", data_dir, "--manifest", split_dir / "manifest.json"]
        own += ["--runs", tmp_path / "both", run, "--output-dir", tmp_path / "report"]
        report([str(value) for value in own])

    train_with(EXPERIMENT)
    put_together()
    write_report()
    train_with(EXPERIMENT | {"model": EXPERIMENT["model"] | {"hidden_dim": 8}})
    with pytest.raises(
        UserError, match=r"both was put together from another model of 'small', seed 0, than .*small/se"
    ):
        write_report()
    put_together()
    write_report()


def test_an_ensemble_of_one_has_its_metrics(together, trained, data_dir, split_dir, tmp_path):
    model = ["--model", trained / "small0" / "best_model.pt", "--output-dir", tmp_path / "alone", "--device", "cpu"]
    evaluate([str(value) for value in [*model, "--data-dir", data_dir, "--split-dir", split_dir]])
    folder = together("small0") / "evaluation_results"
    assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / "alone").iterdir()} - {KEPT}
    alone, found = read_json(tmp_path / "alone" / "metrics.json"), read_json(folder / "metrics.json")
    assert (found["experiment"], found["kind"], found["seed"]) == ("both", "ensemble", 0)
    assert found["selected"] == alone["selected"]
    for part in ("protocol", "full", "1k", "intervals", "reranked", "hubness_corrected"):
        assert found[part] == alone[part]

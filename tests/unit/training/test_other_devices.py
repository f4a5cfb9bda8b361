"""Training, validation and studies on a device without float64, whose tensors no other process gets."""

from collections import Counter
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch

from frozenalign.data.pairs import PairFiles, ResidentPairs
from frozenalign.evaluation.diagnostics import diagnostics
from frozenalign.evaluation.hubness import CANDIDATES, HubnessCorrection, choose_correction
from frozenalign.evaluation.projections import project_files
from frozenalign.evaluation.retrieval import Evaluation, Retrieval, evaluate
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.files import read_json, write_yaml
from frozenalign.training.epochs import end_epoch, train_epoch
from frozenalign.training.fit import fit, start
from tests.simulated_device import MPS, SimulatedDevice, simulated_device
from tests.small_training import NAMED, REGULARISED, SMALL, STATEFUL, experiment, raw, rotated_pairs
from workflow.scripts import evaluate as evaluate_script
from workflow.scripts import train as train_script

PLAIN = {"model": {"hidden_dim": 16, "dropout": 0.0}, "num_epochs": 2}


@pytest.fixture
def device():
    with simulated_device() as simulated:
        yield simulated


@pytest.mark.parametrize(("head", "loss"), [*STATEFUL, *((head, None) for head in SMALL if head != "blip")])
def test_a_head_trains_with_everything_on(head, loss, device):
    data = raw(rotated_pairs(20, 2)).to(MPS)
    trained = fit(experiment(head, loss, num_epochs=1, **REGULARISED), data, seed=0)
    assert len(trained.history) == 2
    assert trained.loss_sum.device == MPS


@pytest.mark.parametrize("loss", ["siglip", "clip", "infonce", "align", "queue"])
def test_it_trains_what_the_cpu_trains(loss):
    settings, data = experiment("mlp", {"type": loss}, gradient_clip=0.5, **PLAIN), raw(rotated_pairs(40, 2))
    expected = fit(settings, data, seed=0)
    with simulated_device():
        found = fit(settings, data.to(MPS), seed=0)
        weights = {name: value.cpu() for name, value in found.model.state_dict().items()}
    for name, value in expected.model.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)
    for one, other in zip(found.history, expected.history, strict=True):
        assert one["val"]["RSUM"] == pytest.approx(other["val"]["RSUM"])


@pytest.mark.parametrize(("head", "loss"), STATEFUL, ids=NAMED)
def test_no_step_waits_for_the_device(head, loss, device):
    """What an epoch reads of the device is as much for six steps as for three."""
    assert _waits_of_epoch(head, loss, 48, device) == _waits_of_epoch(head, loss, 96, device)


def _waits_of_epoch(head: str, loss: dict, images: int, device: SimulatedDevice) -> Counter:
    settings, data = experiment(head, loss, batch_size=16, **REGULARISED), raw(rotated_pairs(images)).to(MPS)
    state = start(settings, data, seed=0)
    train_epoch(state, data.train, settings.training, seed=0)
    end_epoch(state)
    before = Counter(device.waits)
    train_epoch(state, data.train, settings.training, seed=0)
    assert state.batch == images // 16
    return device.waits - before


@pytest.mark.parametrize("model", [{"skip": "cca"}, {"whitening": "zca"}, {"whitening": "pca"}], ids=str)
def test_a_start_is_that_of_the_cpu(model, data, device):
    settings = experiment("mlp", model=model, noise="auto" if "skip" in model else 0.0)
    expected = start(settings, data, seed=0).model.state_dict()
    found = start(settings, data.to(MPS), seed=0).model.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].cpu(), value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", ["mlp", "cross_modal"])
def test_an_evaluation_finds_what_the_cpu_finds(head, data, files, device):
    model = start(experiment(head), data, seed=0).model.eval()
    expected, found = (_evaluated(model, files, each) for each in (torch.device("cpu"), MPS))
    assert found.projections.images.device == MPS
    assert found.metrics == expected.metrics
    one, other = (diagnostics(each, each.projections, None, None) for each in (found, expected))
    assert one["effective_rank"] == pytest.approx(other["effective_rank"], rel=1e-4)
    assert one["uniformity"] == pytest.approx(other["uniformity"], rel=1e-4)


def _evaluated(model: DualEncoder, files: dict[str, PairFiles], device: torch.device) -> Evaluation:
    training = project_files(model, files["train"], device)
    correction = HubnessCorrection(CANDIDATES[0], training, plain={}, corrected={})
    assert sum(choose_correction(training, training).corrected.values()) > 0
    retrieval = Retrieval.of(model, files["val"], device, correction)
    return evaluate(retrieval, retrieval.counts(), "val", "all")


def test_the_steps_of_a_run_find_what_they_find_on_the_cpu(data_dir, split_dir, tmp_path, device, monkeypatch):
    """As a user runs them: a head that starts from the CCA, trained and evaluated."""
    expected = _run("cpu", tmp_path, data_dir, split_dir)
    for script in (train_script, evaluate_script):
        monkeypatch.setattr(script, "choose_device", lambda name: MPS)
    assert _run("mps", tmp_path, data_dir, split_dir) == expected


def _run(device: str, folder: Path, data_dir: Path, split_dir: Path) -> dict:
    """Return the metrics of a head on the test pairs."""
    folder = folder / device
    folder.mkdir()
    written = {"model": {"type": "linear", "output_dim": 4, "init": "cca"}, "loss": {"type": "clip"}}
    write_yaml(folder / "head.yaml", written | {"training": {"num_epochs": 1, "batch_size": 32}})
    where = ["--data-dir", str(data_dir), "--split-dir", str(split_dir), "--device", device]
    how = ["--experiment", str(folder / "head.yaml"), "--precision", "fp32", "--output-dir", str(folder)]
    train_script.main([*where, *how])
    evaluate_script.main([*where, "--model", str(folder / "best_model.pt"), "--output-dir", str(folder / "found")])
    found = read_json(folder / "found" / "metrics.json")
    return {name: found[name] for name in ("full", "1k", "hubness_corrected", "protocol")}


def test_the_simulated_device_refuses_what_the_real_one_refuses(device):
    on_device, on_cpu = torch.ones(3, device=MPS), torch.ones(3)
    for refused, said in (
        (lambda: on_device.double(), "float64"),
        (lambda: on_device + on_cpu, "same device"),
        (lambda: on_device.sum(dtype=torch.float64), "float64"),
        (lambda: torch.zeros(2, dtype=torch.float64, device=MPS), "float64"),
        (lambda: on_device.numpy(), "numpy"),
        (lambda: ForkingPickler.dumps(ResidentPairs(on_device, on_device, on_device)), "only available on CPU"),
    ):
        with pytest.raises((TypeError, RuntimeError), match=said):
            refused()
    assert torch.equal(on_device.cpu().double(), torch.ones(3).double())

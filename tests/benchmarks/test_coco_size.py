"""What the benchmark of COCO's size plants and measures."""

import sys

import numpy as np
import pytest
import torch

from frozenalign.configuration.experiments import experiment_from
from frozenalign.data.rows import open_rows
from frozenalign.data.splits import SplitIndex
from frozenalign.system.files import read_json
from tests.benchmarks import coco_size
from tests.benchmarks.coco.floors import Work, loss_operations, tower_operations
from tests.benchmarks.coco.input_files import write_planted
from tests.benchmarks.coco.planted import Planted
from tests.benchmarks.coco.rates import Rates
from tests.benchmarks.coco.usage import CommandError, usage_of


def whole_split(planted: Planted) -> SplitIndex:
    """Return a split of all pairs."""
    first = np.flatnonzero(np.diff(planted.owners, prepend=-1))
    return SplitIndex(first, np.arange(len(planted.owners)), planted.owners)


def test_each_step_is_measured_beside_its_floor(tmp_path):
    small = ["--images", "300", "--widths", "80", "96", "--product-rows", "64"]
    parts = ["--baselines", "cca", "--heads", "linear", "--only", "split", "baselines", "train", "evaluate", "report"]
    fractions = '{"train": 0.6, "val": 0.2, "test": 0.2}'
    steps = coco_size.main([str(tmp_path), *small, *parts, "--fractions", fractions])
    names = ["split", "baselines", "train linear", "evaluate cca", "evaluate linear", "report"]
    assert [step.name for step in steps] == names
    assert all(step.ratio > 1 for step in steps[:-1])
    assert all(step.usage.peak_bytes > 50e6 for step in steps)
    embeddings = sum(path.stat().st_size for path in (tmp_path / "data").glob("*.pt"))
    assert steps[0].usage.read_bytes > embeddings
    written = read_json(tmp_path / "coco_size.json")
    assert [step["name"] for step in written["steps"]] == names
    found = read_json(tmp_path / "cca/seed0/evaluation_results/metrics.json")["full"]["RSUM"]
    assert 90 < found < written["ceiling"] <= 600


def test_a_folder_of_another_input_is_refused(tmp_path):
    coco_size.write_once(tmp_path, Planted(10, 8, 8), "float32")
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    coco_size.write_once(tmp_path, Planted(10, 8, 8), "float32")
    with pytest.raises(SystemExit, match="other options"):
        coco_size.write_once(tmp_path, Planted(10, 8, 8, nonlinear=False), "float32")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == written


@pytest.mark.parametrize("nonlinear", [True, False])
def test_the_ceiling_ranks_by_the_likelihood_of_a_match(nonlinear):
    planted = Planted(150, 8, 8, nonlinear, caption_noise=2.5)
    split = whole_split(planted)
    block = slice(0, 150)
    topics = planted._topics(block).astype(np.float64)
    noisy = planted._caption_topics(block).astype(np.float64)
    noise = planted.caption_noise**2
    distances = ((noisy[:, None] - topics[None]) ** 2).sum(2)
    scores = -distances / (2 * noise) + (noisy**2).sum(1)[:, None] / (2 * (1 + noise))
    own = scores[np.arange(len(noisy)), planted.owners]
    ranks = (scores > own[:, None]).sum(1)
    assert planted.ceiling(split)["t2i"]["R@1"] == pytest.approx(100 * (ranks < 1).mean())
    first = planted.owners[scores.argmax(0)] == np.arange(planted.images)
    assert planted.ceiling(split)["i2t"]["R@1"] == pytest.approx(100 * first.mean())


def test_less_noise_raises_the_ceiling():
    reached = [Planted(400, caption_noise=noise).ceiling(whole_split(Planted(400)))["RSUM"] for noise in (0.5, 2, 8)]
    assert reached[0] == 600
    assert reached == sorted(reached, reverse=True)
    assert reached[2] < 300


def linear_share(planted: Planted) -> float:
    """Return the share of the topics' variance that the best linear map of the images' embeddings explains."""
    first = np.flatnonzero(np.diff(planted.owners, prepend=-1))
    rows = np.concatenate([planted.image_rows(block) for block in planted.blocks()])[first]
    topics = np.concatenate([planted._topics(block) for block in planted.blocks()])
    fitted = rows @ np.linalg.lstsq(rows, topics, rcond=None)[0]
    return 1 - (topics - fitted).var() / topics.var()


def test_a_linear_map_finds_all_that_is_planted_linearly_and_not_what_a_network_plants():
    assert linear_share(Planted(3000, 256, 8, nonlinear=False)) > 0.95
    assert 0.4 < linear_share(Planted(3000, 256, 8, nonlinear=True)) < 0.7


def test_embeddings_have_a_long_tailed_spectrum():
    planted = Planted(3000, 256, 256)
    for rows in (planted.image_rows, planted.text_rows):
        values = np.linalg.eigvalsh(np.cov(np.concatenate([rows(block) for block in planted.blocks()]).T))[::-1]
        assert values[0] > 20 * values[planted.factors] > 100 * values[-1] > 0


@pytest.mark.parametrize("number", ["float32", "float16"])
def test_the_files_hold_the_planted_rows(tmp_path, number):
    planted = Planted(1500, 8, 12)
    write_planted(tmp_path, planted, number)
    last = planted.blocks()[-1]
    for name, rows in (("image", planted.image_rows), ("text", planted.text_rows)):
        path = tmp_path / f"train2017_{name}_embeddings.pt"
        written, expected = torch.load(path, weights_only=True), torch.from_numpy(rows(last).astype(number))
        assert torch.equal(written[-len(expected) :], expected)
        assert open_rows(path).rows == len(planted.owners)
    metadata = read_json(tmp_path / "train2017_metadata.json")
    assert metadata["image_ids"] == planted.owners.tolist()


def test_bytes_and_memory_of_a_command_are_counted(tmp_path):
    (tmp_path / "file").write_bytes(bytes(30_000_000))
    code = f"held = open({str(tmp_path / 'file')!r}, 'rb').read(); held = bytearray(b'1' * 200_000_000)"
    usage = usage_of([sys.executable, "-c", code], tmp_path / "log")
    assert 30_000_000 <= usage.read_bytes < 40_000_000
    assert 200e6 < usage.peak_bytes < 500e6
    assert 0 < usage.processor_seconds < 60


def test_a_command_that_fails_says_so(tmp_path):
    with pytest.raises(CommandError, match=r"ended with 3[\s\S]*no room"):
        usage_of([sys.executable, "-c", "print('no room'); raise SystemExit(3)"], tmp_path / "log")


def test_floors_count_products_by_their_shapes(tmp_path):
    linear = experiment_from({"model": {"type": "linear", "output_dim": 5}, "loss": {"type": "infonce"}}, "test")
    assert tower_operations(linear, (7, 11)) == 2 * 2 * 5 * (7 + 11)
    SplitIndex(np.arange(3), np.arange(12), np.arange(12) // 4).save(tmp_path / "train.npz")
    rates = Rates(read=100.0, hashed=50.0, operations=1000.0, training_operations=2000.0)
    work = Work(tmp_path, (7, 11), value_bytes=4)
    rows = 4 * (3 * 7 + 12 * 11)
    assert work.bytes_of("train") == rows
    assert work.moment_seconds(rates) == pytest.approx(rows / 100 + (3 * 49 + 12 * 121 + 2 * 3 * 77) / 1000)
    products = 12 * (4 * 5 * 18 + 6 * linear.training.batch_size * 5)
    assert work.epoch_seconds(rates, linear) == pytest.approx(rows / 100 + products / 2000)


@pytest.mark.parametrize(
    ("loss", "products"),
    [
        ({"type": "siglip"}, 3 * 512),
        ({"type": "queue", "queue_size": 100}, 4 * 100),
        ({"type": "blip", "queue_size": 100}, 6 * 512 + 6 * 100),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_floors_count_the_products_of_a_loss_with_all_its_keys(loss, products):
    experiment = experiment_from({"model": {"type": "mlp", "output_dim": 5}, "loss": loss}, "test")
    assert experiment.training.batch_size == 512
    assert loss_operations(experiment) == 2 * 5 * products

"""Data of unusual shapes go through the whole chain: split, train, evaluate, figures and report."""

import json
from pathlib import Path

import pytest
import torch

from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.metrics import RECALLS
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_json
from tests.conftest import related_embeddings, write_set
from tests.whole_chain import Results, divide, run_steps
from workflow.scripts.baselines import main as baselines
from workflow.scripts.evaluate import main as evaluate

IMAGES = 80
COUNTS = {"train": 50, "val": 12, "test": 18}


def with_captions(counts: list[int]) -> tuple[torch.Tensor, torch.Tensor, dict]:
    """Return pairs of images with so many captions each."""
    images, texts, ids = related_embeddings(len(counts), max(counts))
    chosen = [i * max(counts) + j for i, count in enumerate(counts) for j in range(count)]
    metadata = {"image_ids": [ids[i] for i in chosen], "captions": [f"caption {i}" for i in chosen]}
    return images[chosen], texts[chosen], metadata


def found(folder: Path, data: tuple, counts: dict[str, int] = COUNTS) -> Results:
    write_set(folder / "data", *data)
    return run_steps(folder / "data", folder, counts)


def of_the_cca(data: Path, divided: Path, folder: Path) -> dict:
    """Fit the CCA and return what its evaluation writes."""
    folders = ["--data-dir", str(data), "--split-dir", str(divided)]
    run = folder / "cca" / "seed0"
    baselines(["--baselines", "cca", "--output-dir", str(folder), *folders])
    evaluate(
        ["--model", str(run / "best_model.pt"), "--output-dir", str(run / "evaluation"), "--device", "cpu", *folders]
    )
    return read_json(run / "evaluation" / "metrics.json")


def recalls(results: Results) -> list[float]:
    return [results.metrics["full"][direction][name] for direction in ("i2t", "t2i") for name in RECALLS]


def test_one_caption_an_image(tmp_path):
    results = found(tmp_path, with_captions([1] * IMAGES))
    assert results.metrics["protocol"]["captions"] == COUNTS["test"]
    assert results.manifest["pairs"] == IMAGES


def test_five_to_seven_captions_an_image(tmp_path):
    captions = [5 + i % 3 for i in range(IMAGES)]
    results = found(tmp_path, with_captions(captions))
    assert results.manifest["pairs"] == sum(captions)
    assert 5 * COUNTS["test"] < results.metrics["protocol"]["captions"] < 7 * COUNTS["test"]


def test_a_caption_that_several_images_share(tmp_path):
    images, texts, metadata = with_captions([2] * IMAGES)
    texts[::2] = texts[0]
    results = found(tmp_path, (images, texts, metadata))
    said = "18 of the 36 captions have the text embedding of a caption of another image"
    assert any(said in text for text in results.manifest["warnings"])
    assert said in results.page
    assert results.metrics["full"]["t2i"]["R@1"] <= 100 * 18 / 36


def test_an_image_under_two_ids(tmp_path):
    images, texts, metadata = with_captions([2] * IMAGES)
    images[2:IMAGES:4] = images[0:IMAGES:4]
    images[3:IMAGES:4] = images[1:IMAGES:4]
    results = found(tmp_path, (images, texts, metadata))
    assert results.manifest["leak_check"] == "passed"
    assert results.manifest["identical_image_groups"] == IMAGES // 4
    assert "have a copy under another id in test" in results.page


def test_one_test_image(tmp_path):
    results = found(tmp_path, with_captions([3] * IMAGES), {"train": 60, "val": 10, "test": 1})
    assert results.metrics["protocol"]["images"] == 1
    assert results.metrics["protocol"]["captions"] == 3
    assert recalls(results) == [100.0] * 6
    assert "test has few images, 1" in results.page


def test_one_test_image_with_one_caption(tmp_path):
    results = found(tmp_path, with_captions([1] * IMAGES), {"train": 60, "val": 10, "test": 1})
    assert results.metrics["protocol"] | {"rows": ""} == {
        "split": "test",
        "images": 1,
        "captions": 1,
        "captions_rule": "all",
        "rows": "",
    }
    assert recalls(results) == [100.0] * 6


def test_one_test_image_whose_captions_are_nearly_equal(tmp_path):
    images, texts, metadata = with_captions([3] * IMAGES)
    texts[3:6] = texts[3] * (1 + 1e-7 * torch.arange(3)[:, None])
    write_set(tmp_path / "data", images, texts, metadata)
    names = {str(1000 + i): "test" if i == 1 else "val" if i % 5 == 0 else "train" for i in range(IMAGES)}
    (tmp_path / "assigned.json").write_text(json.dumps(names))
    results = run_steps(tmp_path / "data", tmp_path, "--assignments", tmp_path / "assigned.json")
    assert recalls(results) == [100.0] * 6


def test_test_images_that_are_all_alike(tmp_path):
    """Every similarity is the same but for rounding, and every picture can be drawn."""
    images, texts, metadata = with_captions([1] * IMAGES)
    images[-10:], texts[-10:] = images[-1].clone(), texts[-1].clone()
    write_set(tmp_path / "data", images, texts, metadata)
    assigned = {str(1000 + i): ("test" if i >= 70 else "val" if i >= 55 else "train") for i in range(IMAGES)}
    (tmp_path / "assigned.json").write_text(json.dumps(assigned))
    results = run_steps(tmp_path / "data", tmp_path, "--assignments", tmp_path / "assigned.json")
    assert [results.metrics["full"][direction]["R@10"] for direction in ("i2t", "t2i")] == [100.0, 100.0]
    assert "10 of the 10 test images have a copy under another id in test" in results.page


def test_a_group_of_identical_images_larger_than_a_split_is_said_in_words(tmp_path):
    """Whatever the seed, no split is written that lacks images; with the last of these, the group comes first."""
    images, texts, metadata = with_captions([1] * IMAGES)
    images[:40] = images[0].clone()
    write_set(tmp_path / "data", images, texts, metadata)
    seeds = (0, 1, 2, 40)
    said = []
    for seed in seeds:
        folder = tmp_path / f"{seed}"
        try:
            divide(tmp_path / "data", folder, COUNTS | {"train": 30}, "--seed", seed)
        except UserError as error:
            said.append(str(error))
            assert not list(folder.glob("split/*.npz"))
            continue
        for name, fewest in (("train", 2), ("val", 2), ("test", 1)):
            assert len(SplitIndex.load(folder / "split" / f"{name}.npz").image_rows) >= fewest
    assert len(said) == len(seeds) - 1
    assert all("40 images share one embedding and stay together, here in " in text for text in said)
    assert all("or try another `split.seed`" in text for text in said)


@pytest.mark.slow
def test_25_000_test_images_are_evaluated(tmp_path):
    """The baseline alone: a head would be trained on the few images that are left."""
    images, texts, ids = related_embeddings(25_600, 1)
    write_set(tmp_path / "data", images, texts, {"image_ids": ids})
    divided = divide(tmp_path / "data", tmp_path, {"train": 400, "val": 200, "test": 25_000})
    metrics = of_the_cca(tmp_path / "data", divided, tmp_path)
    assert (metrics["protocol"]["images"], metrics["protocol"]["captions"]) == (25_000, 25_000)
    assert metrics["1k"]["folds"] == 25
    assert 0 < metrics["full"]["t2i"]["R@1"] < metrics["1k"]["t2i"]["R@1"]

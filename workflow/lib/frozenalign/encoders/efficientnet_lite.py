"""The network EfficientNet-Lite0 (Tan and Le 2019, in the form for small devices), as a map from pictures to rows.

Against EfficientNet-B0 it has no squeeze-and-excitation, and ReLU6 for Swish.
"""

import re
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

WIDTH = 1280
EPSILON = 1e-3
# Blocks of a stage, side of the kernel, stride of the first block, expansion, channels out.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# Names in the published state, and here.
RENAMED = (
    (r"^_conv_stem\.", "stem.convolution."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_conv_head\.", "head.convolution."),
    (r"^_bn1\.", "head.norm."),
    (r"^_blocks\.(\d+)\._expand_conv\.", r"blocks.\1.expand.convolution."),
    (r"^_blocks\.(\d+)\._bn0\.", r"blocks.\1.expand.norm."),
    (r"^_blocks\.(\d+)\._depthwise_conv\.", r"blocks.\1.depthwise.convolution."),
    (r"^_blocks\.(\d+)\._bn1\.", r"blocks.\1.depthwise.norm."),
    (r"^_blocks\.(\d+)\._project_conv\.", r"blocks.\1.project.convolution."),
    (r"^_blocks\.(\d+)\._bn2\.", r"blocks.\1.project.norm."),
)
CLASSIFIER = "_fc."


class NormedConvolution(nn.Module):
    """A convolution that keeps ceil(side / stride) pixels, as TensorFlow pads it, and batch norm."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, side, stride, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (n, C, H, W) to (n, outputs, ceil(H / stride), ceil(W / stride))."""
        (side, _), (stride, _) = self.convolution.kernel_size, self.convolution.stride
        down, across = (max((-(-size // stride) - 1) * stride + side - size, 0) for size in pixels.shape[-2:])
        if down or across:
            # What is odd goes to the right and to the bottom.
            pixels = functional.pad(pixels, (across // 2, across - across // 2, down // 2, down - down // 2))
        return self.norm(self.convolution(pixels))

    def fuse(self) -> None:
        """Make the batch norm a part of the convolution, as it is a fixed linear map in evaluation."""
        self.convolution, self.norm = fuse_conv_bn_eval(self.convolution, self.norm), nn.Identity()


class Block(nn.Module):
    """An inverted residual: expand the channels, filter each alone, project, and add the input where it fits."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = NormedConvolution(inputs, wide, 1) if expansion > 1 else None
        self.depthwise = NormedConvolution(wide, wide, side, stride, groups=wide)
        self.project = NormedConvolution(wide, outputs, 1)
        self.adds_input = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, inputs, H, W) to (n, outputs, ceil(H / stride), ceil(W / stride))."""
        expanded = functional.relu6(self.expand(features)) if self.expand else features
        projected = self.project(functional.relu6(self.depthwise(expanded)))
        return projected + features if self.adds_input else projected


class EfficientNetLite0(nn.Module):
    """The network without its classifier: pictures (n, 3, H, W), values (x - 127) / 128, to rows (n, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = NormedConvolution(3, 32, 3, stride=2)
        blocks, inputs = [], 32
        for count, side, stride, expansion, outputs in STAGES:
            for place in range(count):
                blocks.append(Block(inputs, outputs, side, stride if place == 0 else 1, expansion))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = NormedConvolution(inputs, WIDTH, 1)

    def forward(self, pictures: Tensor, layer: int | None = None) -> Tensor:
        """Return the mean of the last features over the picture, (n, 1280), or of those after `layer` blocks."""
        features = self.blocks[:layer](functional.relu6(self.stem(pictures)))
        if layer is None:
            features = functional.relu6(self.head(features))
        return features.mean((2, 3))

    def fuse(self) -> "EfficientNetLite0":
        """Fuse every batch norm, in evaluation mode; the same rows within rounding, in less time."""
        for module in self.modules():
            if isinstance(module, NormedConvolution):
                module.fuse()
        return self


def with_published_weights(state: Mapping[str, Tensor]) -> EfficientNetLite0:
    """Return the network with the weights of a published state, in evaluation mode; another state is a RuntimeError."""
    network = EfficientNetLite0()
    network.load_state_dict(
        {_renamed(name): values for name, values in state.items() if not name.startswith(CLASSIFIER)}
    )
    return network.eval().requires_grad_(False)


def _renamed(name: str) -> str:
    for pattern, replacement in RENAMED:
        name, changed = re.subn(pattern, replacement, name)
        if changed:
            return name
    return name

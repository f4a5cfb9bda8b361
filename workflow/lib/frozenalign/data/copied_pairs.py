"""Pairs whose rows a device has no room for: each batch is copied to it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.pairs import ResidentPairs
from frozenalign.data.streamed_pairs import StreamedPairs


@dataclass(frozen=True)
class CopiedPairs:
    """Pairs on the CPU, resident or streamed, whose batches are on `device` in the number format `compute`.

    rows: their own number format is that of the copies.
    """

    rows: ResidentPairs | StreamedPairs
    device: torch.device
    compute: torch.dtype

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def text_image(self) -> Tensor:
        """Return the index (m,) of each text's image, on the CPU."""
        return self.rows.text_image

    @property
    def widths(self) -> tuple[int, int]:
        """Return D_image and D_text."""
        return self.rows.widths

    def batch(self, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return image rows (B, D_image), text rows (B, D_text) and image indices (B,) of the pairs (B,)."""
        images, texts, index = (self._copied(values) for values in self.rows.batch(pairs))
        return images.to(self.compute), texts.to(self.compute), index

    def _copied(self, values: Tensor) -> Tensor:
        """Copy values, a GPU's without waiting for it."""
        values = values.pin_memory() if self.device.type == "cuda" else values
        return values.to(self.device, non_blocking=True)

    def groups(self, batch_size: int, generator: np.random.Generator) -> list[np.ndarray]:
        """Return the pairs of an epoch in groups that are batched among themselves."""
        return self.rows.groups(batch_size, generator)

    def load_ahead(self, groups: Sequence[np.ndarray]) -> None:
        """Let batches of these groups, each of ascending pairs, come from memory, in this order."""
        self.rows.load_ahead(groups)

    def of_images(self, text_image: Tensor) -> "CopiedPairs":
        """Return the pairs of the same texts with the images text_image (m,)."""
        return replace(self, rows=self.rows.of_images(text_image))

    def with_noise(self, generator: np.random.Generator) -> "CopiedPairs":
        """Return pairs whose rows are standard normal."""
        return replace(self, rows=self.rows.with_noise(generator))

    def to(self, device: torch.device) -> ResidentPairs | StreamedPairs:
        """Return the pairs themselves; only the CPU has them."""
        return replace(self.rows, compute=self.compute).to(device)

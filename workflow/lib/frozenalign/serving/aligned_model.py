"""A trained head for use: raw embeddings in, unit vectors of the common space out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.models.model_file import load_heads
from frozenalign.serving.export_folder import read_export
from frozenalign.serving.model_facts import facts_of_run
from frozenalign.system.devices import choose_device

BATCH_ROWS = 4096


@dataclass(frozen=True)
class AlignedModel:
    """Both towers of a trained head on a device.

    facts: what is known of it: dataset, experiment, kind, seed, inputs, warnings, selected and, each None where it is
    not known, epoch, encoders (its images and texts are those of encoding.json), split and metrics.
    """

    model: DualEncoder
    facts: Mapping[str, Any]
    device: torch.device

    @classmethod
    def from_run(
        cls, path: str | Path, data_dir: str | Path | None = None, device: str | torch.device = "auto"
    ) -> "AlignedModel":
        """Read the best_model.pt of a run, and the metrics beside it.

        data_dir: the folder of the data set, whose encoding.json says what encoded it.
        """
        path = Path(path)
        model, facts = load_heads(path)
        return cls._on(device, model, facts_of_run(path, facts, data_dir=data_dir and Path(data_dir)))

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | torch.device = "auto") -> "AlignedModel":
        """Read a folder that `export` wrote; files that were changed since are a UserError."""
        return cls._on(device, *read_export(Path(folder)))

    @classmethod
    def _on(cls, device: str | torch.device, model: DualEncoder, facts: Mapping[str, Any]) -> "AlignedModel":
        chosen = choose_device(device) if isinstance(device, str) else device
        return cls(model.to(chosen), facts, chosen)

    @property
    def width(self) -> int:
        """Return the width D of the common space."""
        return self.model.settings["output_dim"]

    @property
    def input_widths(self) -> dict[str, int]:
        """Return the widths D_image and D_text of the embeddings, as image and text."""
        return self.model.dims

    def project_images(self, rows: Tensor | np.ndarray) -> Tensor:
        """Map raw image embeddings (N, D_image) to unit vectors (N, D), float32, on the device."""
        return self._in_batches(self.model.encode_images, rows)

    def project_texts(self, rows: Tensor | np.ndarray) -> Tensor:
        """Map raw text embeddings (N, D_text) to unit vectors (N, D), float32, on the device."""
        return self._in_batches(self.model.encode_texts, rows)

    @torch.no_grad()
    def _in_batches(self, encode: Callable[[Any], Tensor], rows: Tensor | np.ndarray) -> Tensor:
        # One row (D,) or an unfit shape goes through whole, and is mapped or refused there.
        if getattr(rows, "ndim", 0) != 2 or len(rows) <= BATCH_ROWS:
            return encode(rows)
        starts = range(0, len(rows), BATCH_ROWS)
        return torch.cat([encode(rows[start : start + BATCH_ROWS]) for start in starts])


def open_model(path: Path, data_dir: Path | None, device: torch.device | str) -> AlignedModel:
    """Return the model of a best_model.pt, or that of an exported folder.

    data_dir: the folder of the data set, whose encoding.json says what encoded it.
    """
    if path.is_dir():
        return AlignedModel.from_pretrained(path, device=device)
    return AlignedModel.from_run(path, data_dir=data_dir, device=device)

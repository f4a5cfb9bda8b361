"""Sixty small photographs with two captions each, and an encoder that notes what it encodes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from frozenalign.encoders import job as job_module
from frozenalign.encoders import shards as shards_module

PICTURES, CAPTIONS, WIDTH = 60, 2, 4
SHARD = 16
YAML = """
modality: both
library: demo
name: noting
width: 4
batch_size: 5
"""


@dataclass
class NotingEncoder:
    """Rows of a few sums, each of one item alone; `fail_after` batches, it dies as a killed process would."""

    fail_after: int | None = None
    version: str = "1"
    encoded: list[Any] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def encode(self, items: Sequence[Image.Image] | Sequence[str]) -> Tensor:
        if self.fail_after is not None and len(self.batches) == self.fail_after:
            raise Killed
        self.batches.append(len(items))
        self.encoded += items
        return torch.stack([row_of(item) for item in items])

    def lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def facts(self) -> dict[str, Any]:
        return {"version": self.version}


class Killed(BaseException):
    """The process ends here."""


def row_of(item: Image.Image | str) -> Tensor:
    """Return the row (4,) that belongs to a picture or a text."""
    values = np.asarray(item, float).ravel() if isinstance(item, Image.Image) else np.frombuffer(item.encode(), "u1")
    moments = [values.mean() + 1, values.std() + 1, values[0] + 1, values[-1] + 1]
    return torch.tensor(moments, dtype=torch.float32)


@dataclass
class Photographs:
    """A folder with pictures and captions, and an encoder's file."""

    folder: Path
    encoder: Path

    @property
    def pictures(self) -> Path:
        return self.folder / "images"

    @property
    def captions(self) -> Path:
        return self.folder / "captions.json"

    def picture(self, number: int) -> Path:
        return self.pictures / f"{number:03d}.png"


@pytest.fixture
def photographs(tmp_path, monkeypatch) -> Photographs:
    """Photographs on disk; a shard holds 16 of them, or 16 captions."""
    monkeypatch.setattr(shards_module, "SHARD_ROWS", SHARD)
    found = Photographs(tmp_path / "photos", tmp_path / "noting.yaml")
    found.encoder.write_text(YAML)
    found.pictures.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(PICTURES):
        Image.fromarray(generator.integers(1, 255, (6, 5, 3), dtype=np.uint8)).save(found.picture(number))
    write_captions(found, {})
    return found


def write_captions(photographs: Photographs, changed: dict[int, str]) -> None:
    """Write COCO's form, captions of several lengths; changed: other texts by caption id."""
    texts = {number: " ".join(["word"] * (number % 7 + 1)) + f" {number}" for number in range(PICTURES * CAPTIONS)}
    content = {
        "images": [{"id": number, "file_name": f"{number:03d}.png"} for number in range(PICTURES)],
        "annotations": [
            {"id": number, "image_id": number // CAPTIONS, "caption": text}
            for number, text in (texts | changed).items()
        ],
    }
    photographs.captions.write_text(json.dumps(content))


@pytest.fixture
def encoder(monkeypatch) -> NotingEncoder:
    """The encoder that every job opens."""
    opened = NotingEncoder()
    monkeypatch.setattr(job_module, "open_encoder", lambda settings, modality, device: opened)
    monkeypatch.setattr(job_module, "self_check", lambda *_: [])
    return opened

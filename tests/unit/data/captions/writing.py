"""Files of captions in their usual forms, and the sentence with which one is refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from frozenalign.data.captions.registry import read_captions
from frozenalign.system.errors import UserError


def write(path: Path, content: str | bytes | Any) -> Path:
    """Write text, bytes, or anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def write_picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (200, 30, 30)).save(path)
    return path


def coco(captions: Mapping[int, list[tuple[int, str]]], name: str = "{:012}.jpg") -> dict[str, Any]:
    """Return COCO's JSON: image id -> (annotation id, caption) of each caption."""
    return {
        "info": {"year": 2017},
        "images": [{"id": image_id, "file_name": name.format(image_id), "height": 480} for image_id in captions],
        "annotations": [
            {"image_id": image_id, "id": number, "caption": caption}
            for image_id, several in captions.items()
            for number, caption in several
        ],
    }


def refusal(*paths: Path, columns: Mapping[str, str] | None = None, pictures: Path | None = None) -> str:
    """Return the sentence with which captions are refused."""
    with pytest.raises(UserError) as refused:
        read_captions(paths, columns, pictures)
    said = str(refused.value)
    assert "\n" not in said
    assert len(said) < 700
    return said

"""encoding.json beside embeddings, which says what encoded them; what of it a split keeps."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frozenalign.configuration.result_files import read_result
from frozenalign.system.errors import UserError

logger = logging.getLogger(__name__)
ENCODING = "encoding.json"
KEPT = (
    *("encoder", "library", "name", "revision", "pooling", "prompt", "dtype", "device_name"),
    *("rows", "refused", "truncated"),
)
# Records of earlier versions lack `layer`.
KEPT_WHERE_THERE = ("layer", "image_size", "max_length")


def read_encoding(folder: Path, hashes: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what encoded the files of a set, without times; None where no record says so.

    hashes: SHA-256 of the files by name. A record of other files, or one that cannot be read, is left out with a
    warning.
    """
    record = read_record(folder, hashes)
    if record is None:
        return None
    images, texts = (
        {key: record[modality][key] for key in KEPT}
        | {key: record[modality].get(key) for key in KEPT_WHERE_THERE}
        | {"facts": _plain(record[modality]["facts"])}
        for modality in ("images", "texts")
    )
    return {"images": images, "texts": texts, "dropped_pairs": record["dropped_pairs"]}


def read_record(folder: Path, hashes: Mapping[str, str]) -> dict[str, Any] | None:
    """Return all of encoding.json, or None as `read_encoding` does."""
    path = folder / ENCODING
    if not path.exists():
        return None
    try:
        record = read_result(path)
    except UserError as error:
        logger.warning("warning: what encoded the data is unknown: %s", error)
        return None
    if any(record["files"].get(name) != sha256 for name, sha256 in hashes.items()):
        logger.warning("warning: what encoded the data is unknown: %s is of other files than those beside it", path)
        return None
    return record


def _plain(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts that are single values, as text."""
    return {name: str(value) for name, value in facts.items() if isinstance(value, str | int | float | bool)}

"""Rows in memory that trainings side by side share: one process reads and converts them, the others find them there."""

import hashlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.pairs import PairFiles, ResidentPairs, Statistics, load_rows, standardize_rows
from frozenalign.data.rows import Rows
from frozenalign.system.fingerprints import file_stamp
from frozenalign.system.shared_memory import Put, is_shared, shared_bytes

logger = logging.getLogger(__name__)


def shared_pairs(
    files: PairFiles, image: Statistics, text: Statistics, dtype: torch.dtype, compute: torch.dtype
) -> ResidentPairs:
    """Return the pairs that `load_pairs` returns; their rows, which nobody may write to, are shared where possible."""
    return ResidentPairs(
        shared_rows(files.images, files.split.image_rows, image, dtype),
        shared_rows(files.texts, files.split.text_rows, text, dtype),
        torch.from_numpy(files.split.text_image),
        compute,
    )


def shared_rows(file: Rows, rows: np.ndarray, statistics: Statistics, dtype: torch.dtype) -> Tensor:
    """Return standardised rows (len(rows), D) in `dtype`: those of a process that has them already, if one runs."""
    row_bytes = file.width * dtype.itemsize

    def write(put: Put) -> None:
        def keep(start: int, values: Tensor) -> None:
            put(memoryview(values.view(torch.uint8).numpy()).cast("B"), start * row_bytes)

        standardize_rows(file, rows, statistics, dtype, keep)

    name = f"{_rows_name(file, rows, dtype)}-{_digest(statistics)}"
    try:
        pages = shared_bytes(name, len(rows) * row_bytes, write)
    except OSError as error:
        logger.info("rows of %s are not shared with other processes: %s", file.where, error)
        return load_rows(file, rows, statistics, dtype)
    with warnings.catch_warnings():
        # PyTorch has no tensors that cannot be written to.
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        return torch.frombuffer(pages, dtype=dtype).view(len(rows), file.width)


def bytes_to_hold(files: PairFiles, dtype: torch.dtype) -> int:
    """Return how much memory the rows of a split take beside those that other processes share already."""
    wanted = (files.images, files.split.image_rows), (files.texts, files.split.text_rows)
    return sum(
        len(rows) * file.width * dtype.itemsize for file, rows in wanted if not is_shared(_rows_name(file, rows, dtype))
    )


def _rows_name(file: Rows, rows: np.ndarray, dtype: torch.dtype) -> str:
    """Return a name for rows of a file as it is now, whatever standardises them."""
    return _digest((file, rows, dtype))


def _digest(content: Any) -> str:
    digest = hashlib.sha256()
    for part in _parts(content):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:32]


def _parts(content: Any) -> Iterator[bytes]:
    """Yield bytes that tell content from other content; a file is told by its path, inode, size and times."""
    if is_dataclass(content):
        content = (type(content).__name__, *(getattr(content, field.name) for field in fields(content)))
    if isinstance(content, tuple):
        for each in content:
            yield from _parts(each)
    elif isinstance(content, np.ndarray | Tensor):
        yield np.ascontiguousarray(content).tobytes()
    elif isinstance(content, Path):
        yield repr((str(content.absolute()), file_stamp(content.stat()))).encode()
    else:
        yield repr(content).encode()

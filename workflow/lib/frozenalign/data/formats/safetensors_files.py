"""Hugging Face's .safetensors: a length, a JSON header, then the bytes of each tensor; read without its library."""

import functools
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from frozenalign.data.formats.registry import register_row_format
from frozenalign.data.formats.stored_rows import (
    STORED,
    StoredRows,
    chosen,
    id_name,
    ids_as_text,
    matrix_shape,
    opened_chunks,
    standing_at,
)
from frozenalign.system.errors import UserError

NUMBERS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
# The limit of the format's own library.
HEADER_BYTES = 100_000_000
INTEGERS = {"I64": np.dtype("<i8"), "I32": np.dtype("<i4")}


@register_row_format(".safetensors")
def read_safetensors(path: Path, name: str | None) -> StoredRows:
    """Named tensors; `PATH::NAME` where several have rows."""
    tensors, start = _header(path)
    taken = chosen({key: value["shape"] for key, value in tensors.items()}, name, path, "tensor")
    where, kind = f"{path}: {taken}", tensors[taken]["dtype"]
    if kind not in NUMBERS:
        raise UserError(f"{where} holds {kind}: save float32, float16, bfloat16 or float64")
    rows, width, notes = matrix_shape(tensors[taken]["shape"], where)
    dtype = STORED[NUMBERS[kind]]
    opened = _opened(path, start, tensors[taken], rows * width * dtype.itemsize)
    chunks = functools.partial(opened_chunks, opened, (rows, width), dtype)
    ids = id_name([key for key, value in tensors.items() if len(value["shape"]) == 1])
    found = functools.partial(_ids, path, start, ids, tensors[ids]) if ids else None
    return StoredRows(path, rows, width, NUMBERS[kind], chunks, found, notes)


def _header(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """Return the descriptions of the tensors by name, and the byte at which their numbers begin."""
    with path.open("rb") as stream:
        length = struct.unpack("<Q", stream.read(8))[0]
        if length > min(HEADER_BYTES, path.stat().st_size):
            raise ValueError(f"its header claims {length} bytes")
        header = json.loads(stream.read(length))
    return {key: value for key, value in header.items() if key != "__metadata__"}, 8 + length


def _opened(path: Path, start: int, tensor: dict[str, Any], size: int) -> functools.partial:
    """Return how to open a file where a tensor of `size` bytes begins."""
    begin, end = tensor["data_offsets"]
    if end - begin != size or begin < 0 or start + end > path.stat().st_size:
        raise ValueError("a tensor does not have the bytes that its shape needs")
    return functools.partial(standing_at, path, start + begin)


def _ids(path: Path, start: int, name: str, tensor: dict[str, Any]) -> list[str]:
    dtype = INTEGERS.get(tensor["dtype"])
    if dtype is None:
        raise UserError(f"{path}: {name} holds {tensor['dtype']}: save ids as whole numbers, in I64 or I32")
    rows = tensor["shape"][0]
    opened = _opened(path, start, tensor, rows * dtype.itemsize)
    values = [each for chunk in opened_chunks(opened, (rows, 1), dtype) for each in chunk[:, 0].tolist()]
    return ids_as_text(values, f"{path}: {name}")

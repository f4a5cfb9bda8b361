"""Archives written by torch.save, opened only if complete and uncompressed, without running anything in them.

Tensors are memory-mapped, not loaded: a header that claims more values than the file holds then fails at the end of
the file, where plain loading would read memory beyond the record.
"""

import zipfile
from pathlib import Path
from typing import Any

import torch

from frozenalign.data.archive_records import ArchiveKind, checked_records
from frozenalign.system.errors import UserError, is_out_of_memory


def open_archive(path: Path, kind: ArchiveKind, device: str = "cpu") -> tuple[Any, list[zipfile.ZipInfo]]:
    """Return the content of a .pt file, tensors and plain values, and the archive's records.

    device: where its tensors are; of those on `meta` nothing but the shape is read.
    """
    records = checked_records(path, kind)
    try:
        # PyTorch opens a name as UTF-8, also where the locale has decoded its bytes differently.
        with path.open("rb") as stream:
            name = path if str(path).isascii() else f"/dev/fd/{stream.fileno()}"
            return torch.load(name, map_location=device, mmap=device == "cpu", weights_only=True), records
    except Exception as error:
        if is_out_of_memory(error):
            raise UserError(f"{path} does not fit into the memory that is left: raise `ulimit -v`") from error
        # A damaged file raises whatever the unpickler trips over, from KeyError to AssertionError.
        raise UserError(f"{path} {kind.foreign}: {kind.otherwise}") from error

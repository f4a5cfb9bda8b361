"""The default form of embeddings, the file that torch.save writes of one tensor, written in chunks.

torch.save makes the archive without the numbers, which then go to their place, and so do the checksums that depend on
them. The result has the bytes of torch.save(tensor, path), and no more than a chunk is ever in memory.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.serialization import skip_data

from frozenalign.data.archive_records import record_start

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
IDENTITY = "/.data/serialization_id"
# In the headers of the ZIP format: of a file in the directory at the end, and of the descriptor after its content.
DIRECTORY_ENTRY, CHECKSUM_IN_ENTRY = struct.Struct("<4s6H3L5H2L"), 16
DESCRIPTOR, CHECKSUM_IN_DESCRIPTOR = b"PK\x07\x08", 4


def write_tensor(path: Path, shape: tuple[int, int], number: str, chunks: Iterable[np.ndarray]) -> None:
    """Write a (rows, width) tensor whose rows come in chunks (n, width) of the number format `number`.

    The name of the archive's records is that of the file, as torch.save has it.
    """
    with FakeTensorMode():
        tensor = torch.empty(shape, dtype=DTYPES[number])
    with skip_data(materialize_fake_tensors=True):
        torch.save(tensor, path)
    with zipfile.ZipFile(path) as archive:
        records, directory = archive.infolist(), archive.start_dir
    numbers = next(record for record in records if "/data/" in record.filename)
    with path.open("r+b") as stream:
        numbers.CRC = _fill(stream, record_start(path, numbers), numbers.file_size, chunks)
        identity = next(record for record in records if record.filename.endswith(IDENTITY))
        content = _identity(stream, path, identity, [record.CRC for record in records if record is not identity])
        identity.CRC = zlib.crc32(content)
        for record in (numbers, identity):
            _write_checksum(stream, path, record, records, directory)


def _fill(stream: BinaryIO, start: int, size: int, chunks: Iterable[np.ndarray]) -> int:
    """Write chunks to their place and return their CRC-32."""
    stream.seek(start)
    checksum = 0
    for chunk in chunks:
        content = memoryview(np.ascontiguousarray(chunk)).cast("B")
        checksum = zlib.crc32(content, checksum)
        stream.write(content)
    if (written := stream.tell() - start) != size:
        raise ValueError(f"{written} bytes of rows where {size} were announced")
    return checksum


def _identity(stream: BinaryIO, path: Path, record: zipfile.ZipInfo, checksums: Iterable[int]) -> bytes:
    """Write and return the record in which PyTorch identifies an archive by its names and checksums."""
    combined = 0
    for checksum in checksums:
        # c10::hash_combine of PyTorch, in 64 bits.
        combined ^= (checksum + 0x9E3779B9 + (combined << 6) + (combined >> 2)) % 2**64
        combined %= 2**64
    start = record_start(path, record)
    stream.seek(start)
    content = stream.read(20) + f"{combined:020d}".encode()
    stream.seek(start)
    stream.write(content)
    return content


def _write_checksum(
    stream: BinaryIO, path: Path, record: zipfile.ZipInfo, records: list[zipfile.ZipInfo], directory: int
) -> None:
    """Write the checksum of a record after its content and into the directory."""
    checksum = struct.pack("<L", record.CRC)
    descriptor = record_start(path, record) + record.file_size
    stream.seek(descriptor)
    if stream.read(len(DESCRIPTOR)) == DESCRIPTOR:
        stream.seek(descriptor + CHECKSUM_IN_DESCRIPTOR)
        stream.write(checksum)
    entry = directory
    for _ in records[: records.index(record)]:
        stream.seek(entry)
        sizes = DIRECTORY_ENTRY.unpack(stream.read(DIRECTORY_ENTRY.size))[10:13]
        entry += DIRECTORY_ENTRY.size + sum(sizes)
    stream.seek(entry + CHECKSUM_IN_ENTRY)
    stream.write(checksum)

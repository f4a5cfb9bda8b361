"""The pairs of a split: read from their files, standardised, held in memory, passed through in chunks."""

import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from frozenalign.data.rows import AveragedRows, RowFile, open_rows
from frozenalign.data.splits import SplitIndex
from frozenalign.system.errors import UserError
from frozenalign.system.products import blocks

PAIRS_AT_ONCE = 4096
CHUNK_BYTES = 16 << 20
STATISTICS_ROWS = 16384
BLOCK_ROWS = 128


@dataclass(frozen=True)
class ResidentPairs:
    """Pairs held in memory, images once: images (n, D_image), texts (m, D_text), text_image (m,) index into images.

    compute: the number format of the batches; the rows may be held in another.
    """

    images: Tensor
    texts: Tensor
    text_image: Tensor
    compute: torch.dtype = torch.float32

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return image rows (B, D_image), text rows (B, D_text) and image indices (B,) of the pairs (B,)."""
        index = self.text_image[pairs]
        return self.images[index].to(self.compute), self.texts[pairs].to(self.compute), index

    def to(self, device: torch.device) -> "ResidentPairs":
        """Return the same pairs on a device."""
        return ResidentPairs(self.images.to(device), self.texts.to(device), self.text_image.to(device), self.compute)


@dataclass(frozen=True)
class PairFiles:
    """The embedding files of a data set and the index of one split."""

    image_file: RowFile
    texts: RowFile
    split: SplitIndex

    def __post_init__(self) -> None:
        """Refuse an index that names rows which the files do not have."""
        split, images = self.split, self.image_file
        named = ((images, split.image_rows), (images, split.further_rows), (self.texts, split.text_rows))
        for file, rows in named:
            if len(rows) and rows[-1] >= file.rows:
                raise UserError(
                    f"{file.path} has {file.rows} rows but the split names row {rows[-1]}: run the split step again"
                )

    @property
    def images(self) -> RowFile:
        """Return the image rows, of which row `split.image_rows[i]` is read as image i."""
        split = self.split
        if not len(split.further_rows):
            return self.image_file
        first = split.image_rows[split.further_image]
        order = np.argsort(first, kind="stable")
        return AveragedRows(**vars(self.image_file), first=first[order], further=split.further_rows[order])

    @classmethod
    def open(cls, images: str | Path, texts: str | Path, split: str | Path) -> "PairFiles":
        """Open two embedding files and a split's index file, reading no embedding."""
        return cls(open_rows(images), open_rows(texts), SplitIndex.load(split))


@dataclass(frozen=True)
class Statistics:
    """Mean and scale (D,) of a modality's training rows; a dimension that never varies has scale one."""

    mean: Tensor
    scale: Tensor

    def to(self, device: torch.device) -> "Statistics":
        """Return the same values on a device."""
        return Statistics(self.mean.to(device), self.scale.to(device))

    def fill(self, layer: nn.Module) -> None:
        """Write the values into the buffers `mean` and `scale` of a head's standardising layer."""
        layer.mean.copy_(self.mean)
        layer.scale.copy_(self.scale)


RAW = Statistics(torch.zeros(()), torch.ones(()))


def row_statistics(file: RowFile, rows: np.ndarray) -> Statistics:
    """Return the mean and standard deviation of the given rows of a file, summed in float64.

    Of more than STATISTICS_ROWS rows, only that many are read, in blocks spread over the file: the values condition the
    input and are stored with the head, so that a sampling error of 1 % of a scale does not matter.
    """
    rows = spread(rows, STATISTICS_ROWS)
    total, squares = torch.zeros(2, file.width, dtype=torch.float64)
    shift = file.read(int(rows[0]), int(rows[0]) + 1)[0].float()
    for _, chunk in file.select(rows):
        shifted = chunk.float().sub_(shift)
        total += shifted.sum(0)
        squares += shifted.square_().sum(0)
    mean = total / len(rows)
    scale = (squares / len(rows) - mean.square()).clamp(min=0).sqrt()
    constant = scale <= 1e-6 * (shift.abs() + 1e-30)
    return Statistics((shift + mean).float(), torch.where(constant, 1.0, scale).float())


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of the ascending rows, in equally spaced blocks of neighbours, one read each."""
    if len(rows) <= count:
        return rows
    block = min(BLOCK_ROWS, count)
    starts = np.linspace(0, len(rows) - block, count // block).astype(int)
    return np.concatenate([rows[start : start + block] for start in starts])


def load_rows(file: RowFile, rows: np.ndarray, statistics: Statistics, dtype: torch.dtype) -> Tensor:
    """Return standardised rows (len(rows), D) in `dtype`; only the result and one chunk per thread are held.

    Each thread reads and converts a part of the rows: a single one uses neither the memory nor the cores fully.
    """
    loaded = _large_tensor(len(rows), file.width, dtype)
    largest = torch.finfo(dtype).max

    def load_part(part: slice) -> None:
        for where, chunk in file.select(rows[part]):
            loaded[part][where] = chunk.float().sub_(statistics.mean).div_(statistics.scale).clamp_(-largest, largest)

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(load_part, blocks(len(rows), max(1, -(-len(rows) // threads)))))
    torch.set_num_threads(threads)
    return loaded


def _large_tensor(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """Return an uninitialised (rows, width) tensor in huge pages: allocating 4 KB ones takes longer than reading."""
    pages = mmap.mmap(-1, rows * width * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(rows, width)


def load_pairs(
    files: PairFiles, image: Statistics, text: Statistics, dtype: torch.dtype, compute: torch.dtype = torch.float32
) -> ResidentPairs:
    """Read the pairs of a split, standardised by the training statistics, and hold them in `dtype`."""
    return ResidentPairs(
        load_rows(files.images, files.split.image_rows, image, dtype),
        load_rows(files.texts, files.split.text_rows, text, dtype),
        torch.from_numpy(files.split.text_image),
        compute,
    )


def resident_chunks(pairs: ResidentPairs) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (b, D_image) and texts (b, D_text) of consecutive pairs."""
    for chunk in blocks(len(pairs), PAIRS_AT_ONCE):
        yield pairs.images[pairs.text_image[chunk]], pairs.texts[chunk]


def file_chunks(files: PairFiles) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (b, D_image) and texts (b, D_text) of consecutive pairs; only the images are all held.

    The next texts reuse the memory of these.
    """
    images = torch.cat([chunk.clone() for _, chunk in files.images.select(files.split.image_rows)])
    text_image = torch.from_numpy(files.split.text_image)
    for where, texts in files.texts.select(files.split.text_rows, CHUNK_BYTES):
        yield images[text_image[where]], texts

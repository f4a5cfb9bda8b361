"""The pairs of a split: read from their files, standardised, held in memory, passed through in chunks."""

import mmap
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from frozenalign.data.averaged_rows import AveragedRows
from frozenalign.data.rows import Rows, open_rows
from frozenalign.data.splits import SplitIndex
from frozenalign.system.errors import UserError
from frozenalign.system.products import blocks

PAIRS_AT_ONCE = 4096
# Rows stay in the cache of a core while they are standardised. Between such pieces threads wait for each other, as one
# at a time runs Python: several take pieces several times as large, up to so many times.
CACHED_BYTES, MOST_TIMES = 1 << 20, 4
CAPTION_BYTES = 24 << 20
STATISTICS_ROWS = 16384
BLOCK_ROWS = 128


class TrainingPairs(Protocol):
    """Pairs that a head can be trained on, wherever their rows are.

    text_image: (m,) index of each text's image, on the device that takes the numbers of pairs.
    """

    text_image: Tensor

    def __len__(self) -> int:
        """Return the number of pairs."""
        ...

    @property
    def device(self) -> torch.device:
        """Return the device that batches are on."""
        ...

    @property
    def widths(self) -> tuple[int, int]:
        """Return D_image and D_text."""
        ...

    def batch(self, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return image rows (B, D_image), text rows (B, D_text) and image indices (B,) of the pairs (B,)."""
        ...

    def groups(self, batch_size: int, generator: np.random.Generator) -> list[np.ndarray]:
        """Return the pairs of an epoch in groups that are batched among themselves."""
        ...

    def load_ahead(self, groups: Sequence[np.ndarray]) -> None:
        """Get ready for the batches of these groups, in this order."""
        ...

    def of_images(self, text_image: Tensor) -> "TrainingPairs":
        """Return the pairs of the same texts with the images text_image (m,)."""
        ...

    def with_noise(self, generator: np.random.Generator) -> "TrainingPairs":
        """Return pairs whose rows are standard normal."""
        ...

    def to(self, device: torch.device) -> "TrainingPairs":
        """Return the same pairs for a device."""
        ...


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

    @property
    def device(self) -> torch.device:
        """Return the device that batches are on."""
        return self.images.device

    @property
    def widths(self) -> tuple[int, int]:
        """Return D_image and D_text."""
        return self.images.shape[1], self.texts.shape[1]

    def groups(self, batch_size: int, generator: np.random.Generator) -> list[np.ndarray]:
        """Return the pairs of an epoch in groups that are batched among themselves: one group of all."""
        return [np.arange(len(self))]

    def load_ahead(self, groups: Sequence[np.ndarray]) -> None:
        """Do nothing: the rows of all groups are there."""

    def of_images(self, text_image: Tensor) -> "ResidentPairs":
        """Return the pairs of the same texts with the images text_image (m,)."""
        return replace(self, text_image=text_image)

    def with_noise(self, generator: np.random.Generator) -> "ResidentPairs":
        """Return pairs whose rows are standard normal, in the number format of these."""
        images, texts = (_noise(rows, generator) for rows in (self.images, self.texts))
        return replace(self, images=images, texts=texts)

    def batch(self, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return image rows (B, D_image), text rows (B, D_text) and image indices (B,) of the pairs (B,)."""
        index = self.text_image[pairs]
        return self.images[index].to(self.compute), self.texts[pairs].to(self.compute), index

    def to(self, device: torch.device) -> "ResidentPairs":
        """Return the same pairs on a device."""
        return ResidentPairs(self.images.to(device), self.texts.to(device), self.text_image.to(device), self.compute)


def _noise(rows: Tensor, generator: np.random.Generator) -> Tensor:
    own = torch.Generator(rows.device).manual_seed(int(generator.integers(2**63)))
    return torch.empty_like(rows).normal_(generator=own)


@dataclass(frozen=True)
class PairFiles:
    """The embedding files of a data set and the index of one split."""

    image_file: Rows
    texts: Rows
    split: SplitIndex

    def __post_init__(self) -> None:
        """Refuse an index that names rows which the files do not have."""
        split, images = self.split, self.image_file
        named = ((images, split.image_rows), (images, split.further_rows), (self.texts, split.text_rows))
        for file, rows in named:
            if len(rows) and rows[-1] >= file.rows:
                raise UserError(
                    f"{file.where} has {file.rows} rows but the split names row {rows[-1]}: run the split step again"
                )

    @property
    def images(self) -> Rows:
        """Return the image rows, of which row `split.image_rows[i]` is read as image i."""
        split = self.split
        if not len(split.further_rows):
            return self.image_file
        first = split.image_rows[split.further_image]
        order = np.argsort(first, kind="stable")
        return AveragedRows(self.image_file, first=first[order], further=split.further_rows[order])

    @property
    def values(self) -> int:
        """Return how many numbers are in the rows of the split."""
        split = self.split
        return len(split.image_rows) * self.image_file.width + len(split.text_rows) * self.texts.width

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


def row_statistics(file: Rows, rows: np.ndarray) -> Statistics:
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


def pair_statistics(files: PairFiles) -> tuple[Statistics, Statistics]:
    """Return the statistics of the images and of the texts of a split, each row counted once."""
    modalities = (files.images, files.texts), (files.split.image_rows, files.split.text_rows)
    with ThreadPoolExecutor(min(2, torch.get_num_threads())) as pool:
        image, text = pool.map(row_statistics, *modalities)
    return image, text


def spread(rows: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of the ascending rows, in equally spaced blocks of neighbours, one read each."""
    if len(rows) <= count:
        return rows
    block = min(BLOCK_ROWS, count)
    starts = np.linspace(0, len(rows) - block, count // block).astype(int)
    return np.concatenate([rows[start : start + block] for start in starts])


def load_rows(file: Rows, rows: np.ndarray, statistics: Statistics, dtype: torch.dtype) -> Tensor:
    """Return standardised rows (len(rows), D) in `dtype`; only the result and one chunk per thread are held."""
    loaded = _large_tensor(len(rows), file.width, dtype)

    def keep(start: int, values: Tensor) -> None:
        loaded[start : start + len(values)] = values

    standardize_rows(file, rows, statistics, dtype, keep)
    return loaded


def standardize_rows(
    file: Rows, rows: np.ndarray, statistics: Statistics, dtype: torch.dtype, keep: Callable[[int, Tensor], None]
) -> None:
    """Call `keep` with (place in `rows`, standardised rows in `dtype`, whose memory is reused) until it has had all.

    Several threads do so, each for a part of the rows: a single one uses neither the memory nor the cores fully.
    """
    largest, threads = torch.finfo(dtype).max, torch.get_num_threads()
    piece_bytes = CACHED_BYTES * min(threads, MOST_TIMES)

    def read_part(part: slice) -> None:
        own, converted = rows[part], torch.empty(0, file.width, dtype=dtype)
        for where, batch in file.batches(own, piece_bytes):
            values = batch.float().sub_(statistics.mean).div_(statistics.scale).clamp_(-largest, largest)
            if len(converted) < len(values):
                converted = torch.empty(values.shape, dtype=dtype)
            keep(part.start + where.start, converted[: len(values)].copy_(values))

    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(read_part, blocks(len(rows), max(1, -(-len(rows) // threads)))))
    torch.set_num_threads(threads)


def _large_tensor(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """Return an uninitialised (rows, width) tensor in huge pages: allocating 4 KB ones takes longer than reading."""
    try:
        pages = mmap.mmap(-1, rows * width * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no memory for {rows} rows of {width} numbers") from error
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


def pair_chunks(pairs: "TrainingPairs") -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (b, D_image) and texts (b, D_text) of consecutive pairs."""
    for chunk in blocks(len(pairs), PAIRS_AT_ONCE):
        images, texts, _ = pairs.batch(torch.arange(chunk.start, chunk.stop, device=pairs.text_image.device))
        yield images, texts


def caption_chunks(files: PairFiles) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield images (n, D_image), texts (b, D_text) and the index (b,) of each text's image, pair after pair.

    Each image stands once in a chunk. Chunks have so many pairs that their rows in float32 take CAPTION_BYTES.
    """
    split, widths = files.split, files.image_file.width + files.texts.width
    for part in blocks(len(split.text_rows), max(1, CAPTION_BYTES // (torch.float32.itemsize * widths))):
        image, place = np.unique(split.text_image[part], return_inverse=True)
        images, texts = files.images.gather(split.image_rows[image]), files.texts.gather(split.text_rows[part])
        yield images, texts, torch.from_numpy(place)

"""Pairs that stay in their files: read in groups of blocks, the next group while batches are taken from this one."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.batches import BlockOrder
from frozenalign.data.noise import NoiseRows
from frozenalign.data.pair_index import no_rows
from frozenalign.data.pairs import RAW, PairFiles, ResidentPairs, Statistics, load_pairs


@dataclass(frozen=True)
class StreamedPairs:
    """Pairs of a split whose batches are those of `ResidentPairs`, of which memory holds two groups.

    image, text, held, compute: as for `load_pairs`. order: which pairs are a group. threads: how many read a group.
    """

    files: PairFiles
    image: Statistics
    text: Statistics
    held: torch.dtype
    compute: torch.dtype
    order: BlockOrder
    threads: int = 1
    loaded: "_LoadedGroups" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "loaded", _LoadedGroups(self.threads))

    def __len__(self) -> int:
        return len(self.files.split.text_rows)

    @property
    def text_image(self) -> Tensor:
        """Return the index (m,) of each text's image."""
        return torch.from_numpy(self.files.split.text_image)

    @property
    def device(self) -> torch.device:
        """Return the CPU, on which batches are."""
        return torch.device("cpu")

    @property
    def widths(self) -> tuple[int, int]:
        """Return D_image and D_text."""
        return self.files.image_file.width, self.files.texts.width

    def batch(self, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return image rows (B, D_image), text rows (B, D_text) and image indices (B,) of the pairs (B,).

        Pairs of a group that is loaded ahead are taken from memory, others from the files.
        """
        wanted = pairs.numpy()
        group, rows = self.loaded.with_pairs(wanted, self._read) or self._read(np.unique(wanted))
        images, texts, _ = rows.batch(torch.from_numpy(np.searchsorted(group, wanted)))
        return images, texts, self.text_image[pairs]

    def groups(self, batch_size: int, generator: np.random.Generator) -> list[np.ndarray]:
        """Return the pairs of an epoch in groups that are batched among themselves."""
        return self.order.groups(len(self), batch_size, generator)

    def load_ahead(self, groups: Sequence[np.ndarray]) -> None:
        """Let batches of these groups, each of ascending pairs, come from memory, in this order."""
        self.loaded.follow(groups)

    def of_images(self, text_image: Tensor) -> "StreamedPairs":
        """Return the pairs of the same texts with the images text_image (m,)."""
        split = replace(self.files.split, text_image=text_image.numpy())
        return replace(self, files=replace(self.files, split=split))

    def with_noise(self, generator: np.random.Generator) -> "StreamedPairs":
        """Return pairs whose rows are standard normal."""
        split = replace(self.files.split, further_rows=no_rows(), further_image=no_rows())
        images, texts = (
            NoiseRows(file.path, file.rows, file.width, file.dtype, seed=int(generator.integers(2**63)))
            for file in (self.files.image_file, self.files.texts)
        )
        return replace(self, files=PairFiles(images, texts, split), image=RAW, text=RAW)

    def to(self, device: torch.device) -> "StreamedPairs":
        """Return the same pairs; only the CPU has them."""
        if device.type != "cpu":
            raise ValueError(f"streamed pairs are copied to {device} batch by batch")
        return self

    def _read(self, pairs: np.ndarray) -> tuple[np.ndarray, ResidentPairs]:
        """Return ascending pairs (k,) and their rows."""
        files = replace(self.files, split=self.files.split.of_pairs(pairs))
        return pairs, load_pairs(files, self.image, self.text, self.held, self.compute)


class _LoadedGroups:
    """The group of pairs that batches are taken from, and the next one, which a thread reads."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._reader: ThreadPoolExecutor | None = None
        self.follow([])

    def __reduce__(self) -> tuple:
        """Give another process the way of reading, without what was read."""
        return _LoadedGroups, (self._threads,)

    def follow(self, groups: Sequence[np.ndarray]) -> None:
        """Begin with the first of these groups, each of ascending pairs."""
        self._groups, self._number = groups, -1
        self._group: tuple[np.ndarray, ResidentPairs] | None = None
        self._next: Future | None = None

    def with_pairs(
        self, pairs: np.ndarray, read: Callable[[np.ndarray], tuple[np.ndarray, ResidentPairs]]
    ) -> tuple[np.ndarray, ResidentPairs] | None:
        """Return the group with the pairs (B,), and its rows; None if neither this group nor a later one has them."""
        for number in range(max(self._number, 0), len(self._groups)):
            group = self._groups[number]
            if _holds(group, pairs[:1]) and _holds(group, pairs):
                self._go_to(number, read)
                return self._group
        return None

    def _go_to(self, number: int, read: Callable) -> None:
        if number == self._number:
            return
        coming = self._next if number == self._number + 1 and self._next else self._started(number, read)
        self._group, self._number = coming.result(), number
        self._next = self._started(number + 1, read) if number + 1 < len(self._groups) else None

    def _started(self, number: int, read: Callable) -> Future:
        """Begin to read a group, after whatever is being read, which is forgotten."""
        self._next = None
        if self._reader is None:
            # The number of threads belongs to the thread that sets it: this one computes as before.
            self._reader = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(self._threads,))
        return self._reader.submit(read, self._groups[number])


def _holds(group: np.ndarray, pairs: np.ndarray) -> bool:
    """Return whether all pairs (B,) are in the ascending group."""
    place = np.searchsorted(group, pairs)
    return bool(place.max() < len(group) and (group[place] == pairs).all())

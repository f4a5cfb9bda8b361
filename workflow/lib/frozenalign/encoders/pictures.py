"""The pictures of a set, each once: loaded ahead of the encoder, and known again by their bytes."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from frozenalign.data.captions.pairs import CaptionedPictures
from frozenalign.data.picture_files import UnreadablePicture, file_inside
from frozenalign.data.pictures import load_picture
from frozenalign.data.tar_members import parted
from frozenalign.encoders.ahead import computed_ahead
from frozenalign.encoders.batches import OpenedEncoder
from frozenalign.encoders.progress import Progress
from frozenalign.encoders.shards import DTYPES, ShardRecord, texts_hash
from frozenalign.system.errors import UserError, one_line
from frozenalign.system.files import file_hash
from frozenalign.system.fingerprints import file_stamp, fingerprint

STOP, DROP = "stop", "drop"
THREADS = 4


@dataclass(frozen=True)
class Loaded:
    """A picture, or why it cannot be read, with the hash of its file."""

    number: int
    picture: Image.Image | None
    reason: str
    sha256: str


@dataclass(frozen=True)
class Pictures:
    """Pictures below a folder, by image id; on_error: whether one that cannot be read stops the job or is dropped."""

    folder: Path
    ids: list[str]
    files: list[str]
    on_error: str
    what = "pictures"

    @classmethod
    def of(cls, captioned: CaptionedPictures, folder: Path, on_error: str) -> "Pictures":
        """Return the pictures that have captions, in their order."""
        return cls(folder, list(captioned.image_files), list(captioned.image_files.values()), on_error)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.ids)

    def recognised(self, record: ShardRecord, items: slice) -> ShardRecord | None:
        """Return the record of a shard made from the pictures that lie there now; files with new times are read."""
        stamps = self._stamps(items)
        if stamps == record.stamps:
            return record
        hashes = computed_ahead(self._hash, self.files[items], THREADS, THREADS)
        return replace(record, stamps=stamps) if self._digest(items, list(hashes)) == record.inputs else None

    def refuse(self, record: ShardRecord, items: slice) -> None:
        """Stop if a finished shard lacks pictures, unless these are to be dropped."""
        if not record.refused or self.on_error == DROP:
            return
        first, reason = next(iter(record.refused.items()))
        name = self.folder / self.files[self.ids.index(first)]
        raise UserError(
            f"{len(record.refused)} of the pictures {items.start + 1:,} to {items.stop:,} cannot be read, the first is "
            f"{one_line(str(name))} ({reason}): mend or replace them, or set `encode.on_error: drop` to leave their "
            "pairs out"
        )

    def encode(self, items: slice, opened: OpenedEncoder, progress: Progress) -> tuple[Tensor, dict[str, Any]]:
        """Return the rows (n, D) of the pictures that can be read, and what the shard's record says of them."""
        stamps, parts, hashes, refused = self._stamps(items), [], [], {}
        size, batch = opened.settings.batch_size, []

        def encode_batch() -> None:
            parts.append(opened.rows([loaded.picture for loaded in batch], lambda i: self.files[batch[i].number]))
            progress.add(len(batch))
            batch.clear()

        for loaded in self._load(items, size):
            hashes.append(loaded.sha256)
            if loaded.picture is None:
                refused[self.ids[loaded.number]] = loaded.reason
                progress.add(1)
            else:
                batch.append(loaded)
            if len(batch) == size:
                encode_batch()
        if batch:
            encode_batch()
        empty = torch.empty(0, opened.settings.width, dtype=DTYPES[opened.settings.dtype])
        about = {"inputs": self._digest(items, hashes), "refused": refused, "stamps": stamps}
        return torch.cat([empty, *parts]), about

    def _load(self, items: slice, ahead: int) -> Iterator[Loaded]:
        return computed_ahead(self._loaded, range(items.start, items.stop), THREADS, ahead)

    def _loaded(self, number: int) -> Loaded:
        name = self.files[number]
        sha256 = self._hash(name)
        try:
            return Loaded(number, load_picture(self.folder, name), "", sha256)
        except UnreadablePicture as unreadable:
            return Loaded(number, None, str(unreadable), sha256)

    def _hash(self, name: str) -> str:
        path = containing_file(self.folder, name)
        return _hash_of(path, file_stamp(path.stat())) if path else "missing"

    def _digest(self, items: slice, hashes: list[str]) -> str:
        """Return one hash of the image ids and of the bytes of their files."""
        return texts_hash([*self.ids[items], *hashes])

    def _stamps(self, items: slice) -> str:
        paths = (containing_file(self.folder, name) for name in self.files[items])
        stamps = [file_stamp(path.stat()) if path else None for path in paths]
        return fingerprint(self.ids[items], self.files[items], stamps)


def containing_file(folder: Path, name: str) -> Path | None:
    """Return the file that holds a picture, its own or the tar that its name leads into; None if there is none."""
    for path in (name, parted(name)[0]):
        with contextlib.suppress(UnreadablePicture):
            return file_inside(folder, path)
    return None


@functools.lru_cache(maxsize=64)
def _hash_of(path: Path, stamp: tuple[int, ...]) -> str:
    """Return the hash of a file; an archive holds thousands of pictures that follow each other."""
    return file_hash(path)

"""The input contract: a folder of embeddings and metadata, checked and indexed with one row per unique image."""

import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from frozenalign.data.given_files import PAIRS, pairs_digest
from frozenalign.data.ids import ID_LENGTH, is_text
from frozenalign.data.inputs import EXTRA_SET
from frozenalign.data.pair_index import PairIndex
from frozenalign.data.row_checks import RowDigests, check_rows
from frozenalign.data.rows import Rows, open_rows
from frozenalign.data.same_image import with_further_rows
from frozenalign.system.errors import UserError, quoted
from frozenalign.system.files import file_hash, read_json

logger = logging.getLogger(__name__)
# Metadata may have so many bytes, and so many more for each text; what is larger belongs to another set.
METADATA_BYTES = 1 << 20
METADATA_BYTES_A_ROW = 2 << 10


class EmbeddingFiles(NamedTuple):
    """The three files of a set: `DIR/PREFIX_{image_embeddings.pt,text_embeddings.pt,metadata.json}`."""

    images: Path
    texts: Path
    metadata: Path

    @classmethod
    def of(cls, folder: str | Path, prefix: str) -> "EmbeddingFiles":
        """Return the paths of the set `prefix` (train2017, val2017) in a folder."""
        ends = ("image_embeddings.pt", "text_embeddings.pt", "metadata.json")
        return cls(*(Path(folder) / f"{prefix}_{end}" for end in ends))


@dataclass(frozen=True)
class Metadata:
    """The metadata of N pairs; ids are text. `unique_ids` is set when images have one row each.

    caption_ids: (N,) of each pair, None where the file has none.
    """

    image_ids: np.ndarray
    unique_ids: np.ndarray | None
    captions: list[str] | None
    image_files: dict[str, str]
    caption_ids: np.ndarray | None = None


@dataclass(frozen=True)
class CheckedSet:
    """A set that keeps the contract.

    digests: of each row of the image file; equal ones mark bit-identical rows.
    hashes: SHA-256 of each file, by file name. pairs: SHA-256 of the image ids, under the name it has in a manifest.
    warnings: sentences to show beside every number.
    """

    images: Rows
    texts: Rows
    metadata: Metadata
    index: PairIndex
    digests: np.ndarray
    hashes: dict[str, str]
    pairs: dict[str, str]
    warnings: list[str]

    @functools.cached_property
    def image_content(self) -> np.ndarray:
        """Return a number for each image, (n_images,); equal ones mark bit-identical embeddings.

        Numbers follow the order of the images, never the bits of their rows: with one seed, two encodings of the same
        pictures are divided alike.
        """
        _, first, content = np.unique(self.digests[self.index.image_rows], return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[content]


class OpenedSet(NamedTuple):
    """A set of which the metadata are read, and no embedding."""

    images: Rows
    texts: Rows
    metadata: Metadata
    index: PairIndex


def open_set(files: EmbeddingFiles) -> OpenedSet:
    """Open a set and compare its row counts, reading the metadata but no embedding."""
    images, texts = open_rows(files.images), open_rows(files.texts)
    metadata = read_metadata(files.metadata, METADATA_BYTES + METADATA_BYTES_A_ROW * texts.rows)
    pairs = len(metadata.image_ids)
    if texts.rows != pairs:
        raise UserError(
            f"{texts.path} has {texts.rows} rows but {files.metadata} lists {pairs} image_ids: `image_ids` needs one "
            "entry per text row"
        )
    listed = "image_ids" if metadata.unique_ids is None else "unique_image_ids"
    expected = pairs if metadata.unique_ids is None else len(metadata.unique_ids)
    if images.rows != expected:
        raise UserError(
            f"{images.path} has {images.rows} rows but {files.metadata} lists {expected} {listed}: write one image row "
            "per text row, or one per image and list the images in `unique_image_ids`"
        )
    if metadata.unique_ids is None:
        index = _index_of_pairs(metadata.image_ids)
    else:
        index = _index_into_unique(metadata.image_ids, metadata.unique_ids, files.metadata)
    return OpenedSet(images, texts, metadata, index)


def check_set(files: EmbeddingFiles) -> CheckedSet:
    """Open a set and read every row once; whatever breaks the input contract is refused."""
    images, texts, metadata, index = open_set(files)
    before = _states(files)
    hashes, warnings = {}, []
    image_digests = RowDigests()
    for file, different, wanted in ((images, len(index.image_ids), image_digests), (texts, texts.rows, None)):
        logger.info("checking %s: %d rows of %d", file.path, file.rows, file.width)
        checked = check_rows(file, wanted)
        hashes[file.path.name] = checked.sha256
        warnings += checked.warnings
        if checked.equal and different > 1:
            raise UserError(f"{file.path}: all {file.rows} rows are equal: encode these inputs again")
    hashes[files.metadata.name] = file_hash(files.metadata)
    digests = image_digests.found()
    if metadata.unique_ids is None:
        index = with_further_rows(images, digests, index, index.pair_image)
    elif len(metadata.unique_ids) == texts.rows and not np.array_equal(metadata.unique_ids, metadata.image_ids):
        warnings.append(
            "image rows are taken in the order of unique_image_ids, which differs from that of image_ids: if the file "
            "has one row per pair, leave unique_image_ids out"
        )
    if _states(files) != before:
        raise UserError(
            f"files in {files.images.parent} changed while they were read: run the step again when they are complete"
        )
    pairs = {PAIRS: pairs_digest(metadata.image_ids, metadata.unique_ids)}
    return CheckedSet(images, texts, metadata, index, digests, hashes, pairs, warnings)


def _states(files: EmbeddingFiles) -> list[tuple[int, int]]:
    """Return size and modification time of each file."""
    return [(status.st_size, status.st_mtime_ns) for status in map(Path.stat, files)]


def check_extra_set(folder: str | Path, images: Rows, texts: Rows) -> CheckedSet | None:
    """Check the extra evaluation set beside the files that are split; None if it has no file."""
    files = EmbeddingFiles.of(folder, EXTRA_SET)
    if not any(path.exists() for path in files):
        return None
    extra = check_set(files)
    for own, other in ((extra.images, images), (extra.texts, texts)):
        if own.width != other.width:
            raise UserError(
                f"{own.path} has {own.width} dimensions but {other.path} has {other.width}: encode both with the same "
                "encoder, or move it away"
            )
    return extra


def read_metadata(path: Path, limit: int) -> Metadata:
    """Read a metadata file: `image_ids` (N); optional are `unique_image_ids`, `captions`, `caption_ids`, `image_files`.

    limit: largest size in bytes, checked before anything is read.
    """
    content = read_json(path, limit, "write the metadata of these embeddings there, one image id for each text row")
    if not isinstance(content, dict) or "image_ids" not in content:
        raise UserError(f"no image_ids in metadata: {path} needs a list `image_ids` with the image of every text row")
    image_ids, unique = _ids(content["image_ids"], f"{path}: image_ids"), content.get("unique_image_ids")
    if unique is not None:
        unique = _ids(unique, f"{path}: unique_image_ids")
    captions, image_files = content.get("captions"), content.get("image_files")
    if captions is not None:
        _refuse_wrong_captions(captions, len(image_ids), path)
    image_files = {} if image_files is None else image_files
    if not isinstance(image_files, dict) or not all(is_text(text) for item in image_files.items() for text in item):
        raise UserError(f"{path}: `image_files` must map image ids to paths inside {path.parent}")
    caption_ids = content.get("caption_ids")
    if caption_ids is not None:
        caption_ids = _caption_ids(caption_ids, len(image_ids), path)
    return Metadata(image_ids, unique, captions, image_files, caption_ids)


def _caption_ids(values: Any, pairs: int, path: Path) -> np.ndarray:
    """Return the caption ids of a metadata file as text (N,); another number of them is refused."""
    ids = _ids(values, f"{path}: caption_ids")
    if len(ids) != pairs:
        raise UserError(f"{path}: `caption_ids` has {len(ids)} entries: write one for each of the {pairs} image_ids")
    return ids


def _refuse_wrong_captions(captions: Any, pairs: int, path: Path) -> None:
    if not isinstance(captions, list):
        raise UserError(f"{path}: `captions` must be a list with one text for each of the {pairs} image_ids")
    if len(captions) != pairs:
        raise UserError(f"{path}: `captions` has {len(captions)} entries, image_ids {pairs}: write one of each a pair")
    for i, caption in enumerate(captions):
        if not is_text(caption):
            raise UserError(f"{path}: captions[{i}] is not text: write every caption as a string of whole characters")


def _ids(values: Any, where: str) -> np.ndarray:
    """Return ids as text (N,), given a list of integers or a list of text."""
    if not isinstance(values, list) or not values:
        raise UserError(f"{where} must be a list with at least one id")
    kind = type(values[0]) if type(values[0]) in (int, str) else None
    # Looking at all at once is much faster than at each; only where one is wrong, it is searched for.
    if set(map(type, values)) != {kind}:
        i, value = next((i, value) for i, value in enumerate(values) if type(value) is not kind)
        raise UserError(f"{where}[{i}] is {quoted(value)}: ids must be all integers or all text")
    ids = list(map(str, values))
    together = "".join(ids)
    if max(map(len, ids)) > ID_LENGTH or "\0" in together or not is_text(together):
        _refuse_wrong_ids(ids, where)
    return np.array(ids)


def _refuse_wrong_ids(ids: list[str], where: str) -> None:
    for i, name in enumerate(ids):
        if len(name) > ID_LENGTH:
            raise UserError(f"{where}[{i}] has {len(name)} characters: an id has at most {ID_LENGTH}; shorten it")
        if "\0" in name or not is_text(name):
            raise UserError(f"{where}[{i}] is {quoted(name)}: an id is text of whole characters, none of them NUL")


def _index_of_pairs(image_ids: np.ndarray) -> PairIndex:
    ids, first, inverse = np.unique(image_ids, return_index=True, return_inverse=True)
    by_row = np.argsort(first)
    return PairIndex(ids[by_row], first[by_row], np.argsort(by_row)[inverse])


def _index_into_unique(image_ids: np.ndarray, unique_ids: np.ndarray, path: Path) -> PairIndex:
    order = np.argsort(unique_ids, kind="stable")
    ordered = unique_ids[order]
    if len(twice := ordered[1:][ordered[1:] == ordered[:-1]]):
        raise UserError(f"{path}: unique_image_ids lists {quoted(str(twice[0]))} twice: list every image once")
    place = np.minimum(np.searchsorted(ordered, image_ids), len(ordered) - 1)
    if len(unknown := np.flatnonzero(ordered[place] != image_ids)):
        raise UserError(
            f"{path}: image_ids[{unknown[0]}] is {quoted(str(image_ids[unknown[0]]))}, which unique_image_ids lacks: "
            "add it there"
        )
    used, pair_image = np.unique(order[place], return_inverse=True)
    return PairIndex(unique_ids[used], used, pair_image)

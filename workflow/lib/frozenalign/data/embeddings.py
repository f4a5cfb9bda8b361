"""The input contract: a folder of embeddings and metadata, checked and indexed with one row per unique image."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frozenalign.data.pair_index import PairIndex
from frozenalign.data.row_checks import check_rows, row_digests
from frozenalign.data.rows import RowFile, open_rows
from frozenalign.data.same_image import with_further_rows
from frozenalign.system.errors import UserError, quoted
from frozenalign.system.files import file_hash, read_json

logger = logging.getLogger(__name__)
# Metadata of so many bytes, and so many more for each text, are read; what is larger belongs to another set.
METADATA_BYTES = 1 << 20
METADATA_BYTES_A_ROW = 2 << 10
# The set that is split, and the one beside it on which every model is evaluated as well.
TRAINING_SET, EXTRA_SET = "train2017", "val2017"
# NumPy gives every id of a column the room of its longest.
ID_LENGTH = 255


@dataclass(frozen=True)
class EmbeddingFiles:
    """The three files of a set: `DIR/PREFIX_{image_embeddings.pt,text_embeddings.pt,metadata.json}`."""

    images: Path
    texts: Path
    metadata: Path

    @classmethod
    def of(cls, folder: str | Path, prefix: str) -> "EmbeddingFiles":
        """Return the paths of the set `prefix` (train2017, val2017) in a folder."""
        stem = Path(folder) / prefix
        return cls(*(Path(f"{stem}_{end}") for end in ("image_embeddings.pt", "text_embeddings.pt", "metadata.json")))


@dataclass(frozen=True)
class Metadata:
    """What a metadata file says of N pairs; ids are text. `unique_ids` is set when images have one row each."""

    image_ids: np.ndarray
    unique_ids: np.ndarray | None
    captions: list[str] | None
    image_files: dict[str, str]


@dataclass(frozen=True)
class CheckedSet:
    """A set that keeps the contract.

    image_content: (n_images,) equal numbers mark bit-identical image embeddings.
    hashes: SHA-256 of each file, by file name. warnings: sentences that belong beside every number.
    """

    images: RowFile
    texts: RowFile
    metadata: Metadata
    index: PairIndex
    image_content: np.ndarray
    hashes: dict[str, str]
    warnings: list[str]


def open_set(files: EmbeddingFiles) -> tuple[RowFile, RowFile, Metadata, PairIndex]:
    """Open a set and match its row counts, reading the metadata but no embedding."""
    images, texts = open_rows(files.images), open_rows(files.texts)
    metadata = read_metadata(files.metadata, METADATA_BYTES + METADATA_BYTES_A_ROW * texts.rows)
    pairs = len(metadata.image_ids)
    if texts.rows != pairs:
        raise UserError(f"{texts.path} has {texts.rows} rows but {files.metadata} lists {pairs} image_ids: one a pair")
    expected = pairs if metadata.unique_ids is None else len(metadata.unique_ids)
    if images.rows != expected:
        listed = "image_ids" if metadata.unique_ids is None else "unique_image_ids"
        raise UserError(
            f"{images.path} has {images.rows} rows but {files.metadata} lists {expected} {listed}: "
            "write one row a pair, or one an image and list those as `unique_image_ids`"
        )
    return images, texts, metadata, _pair_index(metadata, files.metadata)


def check_set(files: EmbeddingFiles) -> CheckedSet:
    """Open a set and read every row once; whatever breaks the input contract is refused."""
    images, texts, metadata, index = open_set(files)
    before = _states(files)
    found = {}
    for file, different in ((images, len(index.image_ids)), (texts, texts.rows)):
        logger.info("checking %s: %d rows of %d", file.path, file.rows, file.width)
        found[file.path.name] = check_rows(file)
        if found[file.path.name].equal and different > 1:
            raise UserError(
                f"{file.path}: all {file.rows} rows are equal, they tell nothing apart: encode these inputs again"
            )
    hashes = {name: rows.sha256 for name, rows in found.items()} | {files.metadata.name: file_hash(files.metadata)}
    digests = row_digests(rows for _, rows in images.chunks())
    if metadata.unique_ids is None:
        index = with_further_rows(images, digests, index)
    if _states(files) != before:
        raise UserError(
            f"{files.images.parent} was written to while its files were read: run the step again after that"
        )
    _, image_content = np.unique(digests[index.image_rows], return_inverse=True)
    warnings = [text for rows in found.values() for text in rows.warnings] + _order_warnings(metadata)
    return CheckedSet(images, texts, metadata, index, image_content, hashes, warnings)


def _order_warnings(metadata: Metadata) -> list[str]:
    """Return a warning if an image file could hold one row a pair or one row an image, in different orders."""
    unique = metadata.unique_ids
    if unique is None or len(unique) != len(metadata.image_ids) or np.array_equal(unique, metadata.image_ids):
        return []
    return [
        "image rows are taken in the order of unique_image_ids, which is not that of image_ids: where the file has one "
        "row a pair, leave unique_image_ids out"
    ]


def _states(files: EmbeddingFiles) -> list[tuple[int, int]]:
    """Return size and time of each file."""
    statuses = [path.stat() for path in (files.images, files.texts, files.metadata)]
    return [(status.st_size, status.st_mtime_ns) for status in statuses]


def check_extra_set(folder: str | Path, images: RowFile, texts: RowFile) -> CheckedSet | None:
    """Check the extra evaluation set beside the files that are split, None where there is no file of it."""
    files = EmbeddingFiles.of(folder, EXTRA_SET)
    if not any(path.exists() for path in (files.images, files.texts, files.metadata)):
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
    """Read a metadata file: `image_ids` (N) and, optionally, `unique_image_ids`, `captions` (N), `image_files`.

    limit: most bytes the file may have; it is looked at before anything is read.
    """
    content = read_json(path, limit, "write the metadata of these embeddings there, one image id for each text row")
    if not isinstance(content, dict) or "image_ids" not in content:
        raise UserError(f"no image_ids in metadata: {path} needs a list `image_ids` with the image of every text row")
    image_ids = _ids(content["image_ids"], f"{path}: image_ids")
    unique = content.get("unique_image_ids")
    return Metadata(
        image_ids,
        None if unique is None else _ids(unique, f"{path}: unique_image_ids"),
        _captions(content.get("captions"), len(image_ids), path),
        _image_files(content.get("image_files"), path),
    )


def _captions(values: Any, pairs: int, path: Path) -> list[str] | None:
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != pairs:
        raise UserError(f"{path}: `captions` must be a list with one text for each of the {pairs} image_ids")
    if (wrong := next((i for i, caption in enumerate(values) if not _is_text(caption)), None)) is not None:
        raise UserError(f"{path}: captions[{wrong}] is not text: write every caption as a string of whole characters")
    return values


def _image_files(values: Any, path: Path) -> dict[str, str]:
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(_is_text(key) and _is_text(name) for key, name in values.items()):
        raise UserError(f"{path}: `image_files` must map image ids to paths inside {path.parent}")
    return values


def _is_text(value: Any) -> bool:
    """Say whether a value is text that can be written to a file: JSON may hold half a character, a lone surrogate."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _ids(values: Any, where: str) -> np.ndarray:
    """Return ids as text (N,); integers and text are taken, mixed or other types are refused."""
    if not isinstance(values, list) or not values:
        raise UserError(f"{where} must be a list with at least one id")
    kinds = {type(value) for value in values}
    if kinds not in ({int}, {str}):
        known = type(values[0]) if type(values[0]) in (int, str) else None
        wrong = next(i for i, value in enumerate(values) if type(value) is not known)
        raise UserError(f"{where}[{wrong}] is {quoted(values[wrong])}: ids must be all integers or all text")
    ids = [str(value) for value in values]
    for i, name in enumerate(ids):
        if len(name) > ID_LENGTH:
            raise UserError(f"{where}[{i}] has {len(name)} characters: an id has at most {ID_LENGTH}; shorten it")
        if "\0" in name or not _is_text(name):
            raise UserError(f"{where}[{i}] is {quoted(name)}: an id is text of whole characters, none of them NUL")
    return np.array(ids)


def _pair_index(metadata: Metadata, path: Path) -> PairIndex:
    if metadata.unique_ids is not None:
        return _index_into_unique(metadata.image_ids, metadata.unique_ids, path)
    _, first, inverse = np.unique(metadata.image_ids, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first, kind="stable")
    position = np.empty_like(by_appearance)
    position[by_appearance] = np.arange(len(by_appearance))
    rows = first[by_appearance]
    return PairIndex(metadata.image_ids[rows], rows, position[inverse])


def _index_into_unique(image_ids: np.ndarray, unique_ids: np.ndarray, path: Path) -> PairIndex:
    order = np.argsort(unique_ids, kind="stable")
    ordered = unique_ids[order]
    if len(twice := ordered[1:][ordered[1:] == ordered[:-1]]):
        raise UserError(f"{path}: unique_image_ids lists {quoted(str(twice[0]))} twice: list every image once")
    place = np.minimum(np.searchsorted(ordered, image_ids), len(ordered) - 1)
    if len(unknown := np.flatnonzero(ordered[place] != image_ids)):
        raise UserError(
            f"{path}: image_ids[{unknown[0]}] is {quoted(str(image_ids[unknown[0]]))}, which unique_image_ids lacks"
        )
    used, pair_image = np.unique(order[place], return_inverse=True)
    return PairIndex(unique_ids[used], used, pair_image)

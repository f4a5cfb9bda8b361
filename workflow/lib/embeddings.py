"""The input contract: a folder of embeddings and metadata, checked and indexed with one row per unique image."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workflow.lib.errors import UserError
from workflow.lib.files import file_hash, read_json
from workflow.lib.rows import RowFile, check_rows, open_rows, row_digests

logger = logging.getLogger(__name__)


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
class PairIndex:
    """Which rows make the pairs, images held once: pair i is text row i and image `pair_image[i]`.

    image_ids: (n_images,) text, in order of first appearance.
    image_rows: (n_images,) row of the image file.
    pair_image: (N,) index into the two above.
    """

    image_ids: np.ndarray
    image_rows: np.ndarray
    pair_image: np.ndarray


@dataclass(frozen=True)
class CheckedSet:
    """A set that keeps the contract.

    image_content: (n_images,) equal numbers mark bit-identical image embeddings.
    hashes: SHA-256 of each file, by file name.
    """

    images: RowFile
    texts: RowFile
    metadata: Metadata
    index: PairIndex
    image_content: np.ndarray
    hashes: dict[str, str]


def open_set(files: EmbeddingFiles) -> tuple[RowFile, RowFile, Metadata, PairIndex]:
    """Open a set and match its row counts, reading the metadata but no embedding."""
    images, texts = open_rows(files.images), open_rows(files.texts)
    metadata = read_metadata(files.metadata)
    pairs = len(metadata.image_ids)
    if texts.rows != pairs:
        raise UserError(f"{texts.path} has {texts.rows} rows but {files.metadata} lists {pairs} image_ids: one a pair")
    expected = pairs if metadata.unique_ids is None else len(metadata.unique_ids)
    if images.rows != expected:
        hint = "; with one row per image, list them as `unique_image_ids`" if metadata.unique_ids is None else ""
        raise UserError(f"{images.path} has {images.rows} rows but {files.metadata} asks for {expected}{hint}")
    return images, texts, metadata, _pair_index(metadata, files.metadata)


def check_set(files: EmbeddingFiles) -> CheckedSet:
    """Open a set and read every row once; whatever breaks the input contract is refused."""
    images, texts, metadata, index = open_set(files)
    hashes = {}
    for file in (images, texts):
        logger.info("checking %s: %d rows of %d", file.path, file.rows, file.width)
        hashes[file.path.name] = check_rows(file)
    hashes[files.metadata.name] = file_hash(files.metadata)
    digests = row_digests(images)
    if metadata.unique_ids is None:
        _refuse_differing_rows(images.path, digests, index)
    _, image_content = np.unique(digests[index.image_rows], return_inverse=True)
    return CheckedSet(images, texts, metadata, index, image_content, hashes)


def _refuse_differing_rows(path: Path, digests: np.ndarray, index: PairIndex) -> None:
    first_rows = index.image_rows[index.pair_image]
    differing = np.flatnonzero(digests != digests[first_rows])
    if len(differing):
        row = differing[0]
        image_id = str(index.image_ids[index.pair_image[row]])
        raise UserError(
            f"{path}: rows {first_rows[row]} and {row} belong to image id {image_id!r} "
            f"but differ ({len(differing)} such rows): give every image one embedding, or different ids"
        )


def read_metadata(path: Path) -> Metadata:
    """Read a metadata file: `image_ids` (N) and, optionally, `unique_image_ids`, `captions` (N), `image_files`."""
    content = read_json(path)
    if not isinstance(content, dict) or "image_ids" not in content:
        raise UserError(f"no image_ids in metadata: {path} needs a list `image_ids` with the image of every text row")
    image_ids = _ids(content["image_ids"], f"{path}: image_ids")
    unique = content.get("unique_image_ids")
    captions = content.get("captions")
    if captions is not None:
        if not isinstance(captions, list) or len(captions) != len(image_ids):
            raise UserError(
                f"{path}: `captions` must be a list with one text for each of the {len(image_ids)} image_ids"
            )
        if (wrong := next((i for i, caption in enumerate(captions) if not isinstance(caption, str)), None)) is not None:
            raise UserError(f"{path}: captions[{wrong}] is not text: write every caption as a string")
    image_files = content.get("image_files") or {}
    if not isinstance(image_files, dict) or not all(isinstance(name, str) for name in image_files.values()):
        raise UserError(f"{path}: `image_files` must map image ids to paths inside {path.parent}")
    return Metadata(
        image_ids, None if unique is None else _ids(unique, f"{path}: unique_image_ids"), captions, image_files
    )


def _ids(values: Any, where: str) -> np.ndarray:
    """Return ids as text (N,); integers and text are taken, mixed or other types are refused."""
    if not isinstance(values, list) or not values:
        raise UserError(f"{where} must be a list with at least one id")
    kinds = {type(value) for value in values}
    if kinds not in ({int}, {str}):
        known = type(values[0]) if type(values[0]) in (int, str) else None
        wrong = next(i for i, value in enumerate(values) if type(value) is not known)
        raise UserError(f"{where}[{wrong}] is {values[wrong]!r}: ids must be all integers or all text")
    return np.array([str(value) for value in values])


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
        raise UserError(f"{path}: unique_image_ids lists {str(twice[0])!r} twice: list every image once")
    place = np.minimum(np.searchsorted(ordered, image_ids), len(ordered) - 1)
    if len(unknown := np.flatnonzero(ordered[place] != image_ids)):
        raise UserError(
            f"{path}: image_ids[{unknown[0]}] is {str(image_ids[unknown[0]])!r}, which unique_image_ids lacks"
        )
    used, pair_image = np.unique(order[place], return_inverse=True)
    return PairIndex(unique_ids[used], used, pair_image)

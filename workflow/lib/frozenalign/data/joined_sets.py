"""Two sets as one data set: the rows and pairs of the second after those of the first."""

import logging
from dataclasses import replace

import numpy as np

from frozenalign.data.embeddings import CheckedSet, Metadata, OpenedSet
from frozenalign.data.given_files import EXTRA_PAIRS, PAIRS
from frozenalign.data.joined_rows import JoinedRows
from frozenalign.data.pair_index import PairIndex, no_rows
from frozenalign.data.row_checks import row_digests
from frozenalign.data.same_image import with_further_rows

logger = logging.getLogger(__name__)
AnySet = OpenedSet | CheckedSet


def opened_as_one(first: OpenedSet, second: OpenedSet) -> OpenedSet:
    """Return two sets as one, reading no embedding; an id that both have is one image, read from the first."""
    index, _ = _joined_index(first, second)
    images, texts = _joined_rows(first, second)
    return OpenedSet(images, texts, _joined_metadata(first.metadata, second.metadata), index)


def checked_as_one(first: CheckedSet, second: CheckedSet) -> CheckedSet:
    """Return two checked sets as one; an id that both have with really different rows is a UserError."""
    images, texts = _joined_rows(first, second)
    index, number = _joined_index(first, second)
    if first.images.dtype == second.images.dtype:
        digests = np.concatenate([first.digests, second.digests])
    else:
        digests = row_digests(rows for _, rows in images.chunks())
    if both := len(number) - len(index.image_ids):
        logger.info("%d image ids stand in both sets: each is one image", both)
        bare = replace(index, further_rows=no_rows(), further_image=no_rows())
        index = with_further_rows(images, digests, bare, _joined_row_image(first, second, number))
    return CheckedSet(
        images,
        texts,
        _joined_metadata(first.metadata, second.metadata),
        index,
        digests,
        first.hashes | second.hashes,
        {PAIRS: first.pairs[PAIRS], EXTRA_PAIRS: second.pairs[PAIRS]},
        [*first.warnings, *second.warnings],
    )


def _joined_rows(first: AnySet, second: AnySet) -> tuple[JoinedRows, JoinedRows]:
    return JoinedRows(first.images, second.images), JoinedRows(first.texts, second.texts)


def _joined_index(first: AnySet, second: AnySet) -> tuple[PairIndex, np.ndarray]:
    """Return the pairs of both sets, and the number in it of each image of the first, then of the second."""
    ids = np.concatenate([first.index.image_ids, second.index.image_ids])
    rows = np.concatenate([first.index.image_rows, second.index.image_rows + first.images.rows])
    _, place, inverse = np.unique(ids, return_index=True, return_inverse=True)
    by_row = np.argsort(place)
    number = np.argsort(by_row)[inverse]
    kept, images = place[by_row], len(first.index.image_ids)
    pair_image = np.concatenate([first.index.pair_image, second.index.pair_image + images])
    further_rows = np.concatenate([first.index.further_rows, second.index.further_rows + first.images.rows])
    further_image = np.concatenate([first.index.further_image, second.index.further_image + images])
    return PairIndex(ids[kept], rows[kept], number[pair_image], further_rows, number[further_image]), number


def _joined_row_image(first: AnySet, second: AnySet, number: np.ndarray) -> np.ndarray:
    """Return which image of both sets each row belongs to, -1 of none, (rows,); number: as `_joined_index` gives it."""
    images = len(first.index.image_ids)
    own = [(_row_image(first), number[:images]), (_row_image(second), number[images:])]
    return np.concatenate([np.where(rows < 0, -1, numbers[rows]) for rows, numbers in own])


def _row_image(opened: AnySet) -> np.ndarray:
    """Return the index of the image that each row of the image file belongs to, -1 of none, (rows,)."""
    if opened.metadata.unique_ids is None:
        return opened.index.pair_image
    found = np.full(opened.images.rows, -1)
    found[opened.index.image_rows] = np.arange(len(opened.index.image_rows))
    return found


def _joined_metadata(first: Metadata, second: Metadata) -> Metadata:
    """Return the metadata of the pairs of both; captions and their ids only if both have them."""
    captions = None
    if first.captions is not None and second.captions is not None:
        captions = [*first.captions, *second.captions]
    elif first.captions is not None or second.captions is not None:
        logger.warning("captions of one of the two sets are missing: none are shown")
    image_ids = np.concatenate([first.image_ids, second.image_ids])
    caption_ids = None
    if first.caption_ids is not None and second.caption_ids is not None:
        caption_ids = np.concatenate([first.caption_ids, second.caption_ids])
    return Metadata(image_ids, None, captions, second.image_files | first.image_files, caption_ids)

"""Warnings about a finished split: leaks, copies, sets that are too small, missing ids."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.assignments import Division
from frozenalign.data.copies import copy_counts
from frozenalign.data.embeddings import CheckedSet
from frozenalign.data.equal_rows import first_equal, row_keys
from frozenalign.data.pair_index import PairIndex
from frozenalign.data.pairs import PairFiles, spread
from frozenalign.data.rows import Rows
from frozenalign.data.splits import SPLITS, UNUSED, SplitIndex, every_row

# With at most so many images the match of every caption is among the first ten.
NO_RECALL_AT_10 = 10
# One image of fewer than these moves a recall by more than two points.
FEW_IMAGES = 50
# Some captions fit several images in any data set; from this share on they limit the results.
SHARED_CAPTIONS = 0.2
ROWS_AT_ONCE = 1024
CENTRE_IMAGES = 4096
COMPARED_IMAGES = 5000
COPIES = "(identical, or different by rounding), so that"


@dataclass(frozen=True)
class Findings:
    """The result of the leak check, warnings to show beside every number, and a description of the extra sets.

    extra: images, pairs, hashes and warnings of each extra evaluation set by name.
    """

    leak_check: str
    warnings: list[str]
    extra: dict[str, dict[str, Any]]


def find(
    checked: CheckedSet, division: Division, splits: Mapping[str, SplitIndex], extra: Mapping[str, CheckedSet]
) -> Findings:
    """Check a split and the extra evaluation sets beside it."""
    pairs = {name: PairFiles(checked.images, checked.texts, splits[name]) for name in SPLITS}
    leaks, copies = _copies(pairs)
    if apart := _identical_images_apart(checked.image_content, division.names):
        leaks = [f"{apart} groups of identical images stand in two splits, as assigned", *leaks]
    small = [*_few("val", splits["val"]), *_few("test", splits["test"])]
    warnings = [*leaks, *copies, *checked.warnings, *small, *_missing(division), *_shared_captions(pairs["test"])]
    described = {
        name: {
            "images": len(found.index.image_ids),
            "pairs": len(found.index.pair_image),
            "hashes": found.hashes,
            "warnings": extra_doubts(found, checked.index, pairs["train"], pairs["val"]),
        }
        for name, found in extra.items()
    }
    return Findings("; ".join(leaks) or "passed", warnings, described)


def _identical_images_apart(image_content: np.ndarray, names: np.ndarray) -> int:
    """Return how many groups of bit-identical images stand in more than one of train, val and test."""
    used = names != UNUSED
    _, split = np.unique(names[used], return_inverse=True)
    content = np.unique(np.stack([image_content[used], split]), axis=1)[0]
    return int((np.bincount(content) > 1).sum())


def _copies(pairs: Mapping[str, PairFiles]) -> tuple[list[str], list[str]]:
    """Return warnings about copies of test and val images: in other splits, and in the same one."""
    test, val = _image_rows(pairs["test"]), _image_rows(pairs["val"])
    centre = _centre(pairs["train"])
    in_train = copy_counts(torch.cat([test, val]), _image_chunks(pairs["train"]), centre)
    test_in_val = copy_counts(test, val.split(ROWS_AT_ONCE), centre)
    leaks, copies = [], []
    for name, own, others, elsewhere in (
        ("test", test, "train or val", in_train[: len(test)] + test_in_val),
        ("val", val, "train", in_train[len(test) :]),
    ):
        of = f"of the {len(own)} {name} images have a copy under another id"
        remedy = "give all captions of an image one id"
        if count := int((elsewhere > 0).sum()):
            leaks.append(f"{count} {of} in {others} {COPIES} {name} does not measure unseen images: {remedy}")
        if count := _copies_within(own, centre):
            copies.append(f"{count} {of} in {name} {COPIES} R@1 is low for every head: {remedy}")
    return leaks, copies


def _copies_within(images: Tensor, centre: Tensor) -> int:
    """Return how many of the images (n, D) have a copy among the others."""
    return int((copy_counts(images, images.split(ROWS_AT_ONCE), centre) > 1).sum())


def _image_rows(pairs: PairFiles) -> Tensor:
    """Return the images of a split, (n, D) in float32."""
    return pairs.images.take(pairs.split.image_rows).float()


def _image_chunks(pairs: PairFiles) -> Iterator[Tensor]:
    """Yield the images of a split, (b, D) at a time; the next ones reuse their memory."""
    return (batch for _, batch in pairs.images.batches(pairs.split.image_rows))


def _centre(train: PairFiles) -> Tensor:
    """Return the median of each dimension over training images, (D,), which a few extreme rows do not move."""
    return train.images.take(spread(train.split.image_rows, CENTRE_IMAGES)).float().median(0).values


def _few(name: str, split: SplitIndex) -> list[str]:
    """Return a warning if a set has few images; for a small test set the intervals show the rest."""
    images = len(split.image_rows)
    if images <= NO_RECALL_AT_10:
        return [f"{name} has few images, {images}: T2I R@10 is 100 % for every head; give it more"]
    if name == "val" and images < FEW_IMAGES:
        return [
            f"val has few images, {images}: one is worth {100 / images:.1f} points of a recall, so that what is chosen "
            "by it is mostly luck; give it more"
        ]
    return []


def _missing(division: Division) -> list[str]:
    """Return a warning if assigned ids are missing from the data set."""
    by_split = ", ".join(f"{name} {count}" for name, count in division.missing.items() if count)
    if not by_split:
        return []
    return [
        f"{sum(division.missing.values())} assigned ids are not in the data set ({by_split}): results do not compare "
        "with those of the whole assignment"
    ]


def _shared_captions(pairs: PairFiles) -> list[str]:
    """Return a warning if many captions have the same embedding as a caption of another image."""
    rows = pairs.split.text_rows
    keys = np.concatenate([row_keys(batch) for _, batch in pairs.texts.batches(rows)])
    content = first_equal(pairs.texts, rows, keys)
    images_of = np.unique(np.stack([content, pairs.split.text_image]), axis=1)[0]
    shared = int((np.bincount(images_of)[content] > 1).sum())
    if shared < SHARED_CAPTIONS * len(content):
        return []
    return [
        f"{shared} of the {len(content)} captions have the text embedding of a caption of another image, so that "
        "T2I R@1 cannot reach 100 %"
    ]


def extra_doubts(extra: CheckedSet, index: PairIndex, train: PairFiles, val: PairFiles) -> list[str]:
    """Return warnings about an extra evaluation set: images seen before, copies, few images, shared captions.

    index: of the set that was split into `train`, `val` and the rest.
    """
    pairs = PairFiles(extra.images, extra.texts, every_row(extra.index))
    own, centre, images = _image_rows(pairs), _centre(train), len(extra.index.image_ids)
    warnings = []
    for name, seen in (("train", train), ("val", val)):
        ids = index.image_ids[np.isin(index.image_rows, seen.split.image_rows)]
        if count := int(np.isin(extra.index.image_ids, ids).sum()):
            warnings.append(f"{count} of its {images} image ids are ids of {name} images")
        if count := int((copy_counts(own, _image_chunks(seen), centre) > 0).sum()):
            warnings.append(f"{count} of its {images} images are in {name} {COPIES} it does not measure unseen images")
    if count := _copies_within(own, centre):
        warnings.append(f"{count} of its {images} images have a copy under another id, so that R@1 is low")
    return [*warnings, *extra.warnings, *_few("it", pairs.split), *_shared_captions(pairs)]


def seen_images(images: Rows, rows: np.ndarray, train: PairFiles) -> list[str]:
    """Return a warning if a head was trained on images of an evaluation set, given by ascending rows of a file.

    Of very many images, some that are spread over the set are compared.
    """
    compared = spread(rows, COMPARED_IMAGES)
    own = images.take(compared).float()
    count = int((copy_counts(own, _image_chunks(train), _centre(train)) > 0).sum())
    if not count:
        return []
    of = f"{count} of its {len(own)} images" if len(own) == len(rows) else f"{count} of {len(own)} images compared"
    return [f"{of} are in train {COPIES} it does not measure unseen images"]


def warning_lines(findings: Findings) -> Sequence[str]:
    """Return every warning as one line, those of an extra set after its name."""
    of_extra = [f"{name}: {text}" for name, found in findings.extra.items() for text in found["warnings"]]
    return findings.warnings + of_extra

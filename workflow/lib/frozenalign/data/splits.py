"""Image-level splits: which rows train, tune, choose and test, as small index files."""

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from frozenalign.data.pair_index import PairIndex, no_rows
from frozenalign.system.errors import UserError, quoted
from frozenalign.system.files import JSON_BYTES, read_arrays, read_json, write_arrays

SPLITS = ("train", "val", "test")
UNUSED = "unused"
ASSIGNMENT_BYTES_AN_IMAGE = 512
MISSING = ("refuse", "drop")
# Fewer images than these mean nothing, with the reason.
FEWEST = {
    "train": (2, "a head learns to tell images apart, and one has no other"),
    "val": (2, "one image ranks first whatever a head does, so that nothing can be chosen by it"),
    "test": (1, "there is nothing to test"),
}


@dataclass(frozen=True)
class SplitIndex:
    """The rows of a split: text row `text_rows[i]` belongs to image row `image_rows[text_image[i]]`.

    image_rows: (n,) ascending rows of the image file.
    text_rows: (m,) ascending rows of the text file.
    text_image: (m,) index into `image_rows`.
    further_rows: (k,) ascending rows of the image file that an image is the mean of, together with its own row.
    further_image: (k,) index of the image of each into `image_rows`.
    """

    image_rows: np.ndarray
    text_rows: np.ndarray
    text_image: np.ndarray
    further_rows: np.ndarray = field(default_factory=no_rows)
    further_image: np.ndarray = field(default_factory=no_rows)

    def save(self, path: str | Path) -> None:
        """Write the index file."""
        write_arrays(path, **{name: values.astype(np.int32) for name, values in vars(self).items()})

    def digest(self) -> str:
        """Return the SHA-256 of the row numbers, which tells whether two splits are of the same rows."""
        digest = hashlib.sha256()
        for name, values in vars(self).items():
            digest.update(f"{name} {len(values)} ".encode() + values.astype("<i8").tobytes())
        return digest.hexdigest()

    def of_images(self, images: np.ndarray) -> "SplitIndex":
        """Return the ascending images (k,), indices into `image_rows`, with all their texts."""
        place = np.full(len(self.image_rows), -1)
        place[images] = np.arange(len(images))
        texts, further = place[self.text_image] >= 0, place[self.further_image] >= 0
        return SplitIndex(
            self.image_rows[images],
            self.text_rows[texts],
            place[self.text_image[texts]],
            self.further_rows[further],
            place[self.further_image[further]],
        )

    @classmethod
    def load(cls, path: str | Path) -> "SplitIndex":
        """Read an index file."""
        if not Path(path).exists():
            raise UserError(
                f"{Path(path).stem} set not found: {path} is missing; run `snakemake splits` or "
                "`python -m workflow.scripts.split` first"
            )
        arrays = read_arrays(path)
        if set(arrays) != {item.name for item in fields(cls)}:
            raise UserError(f"{path} is not a split index: run the split step again")
        for name, values in arrays.items():
            needed = not name.startswith("further_")
            if values.ndim != 1 or values.dtype.kind not in "iu" or (needed and not len(values)):
                raise UserError(f"{path}: {name} is not a list of row numbers: run the split step again")
        index = cls(**{name: values.astype(np.int64) for name, values in arrays.items()})
        index._refuse_disorder(path)
        return index

    def _refuse_disorder(self, path: str | Path) -> None:
        """Refuse rows that do not ascend from 0 on, and images without captions or captions without their image."""
        for name in ("image_rows", "text_rows", "further_rows"):
            rows = getattr(self, name)
            if (np.diff(rows, prepend=-1) <= 0).any():
                place = int(np.argmax(np.diff(rows, prepend=-1) <= 0))
                raise UserError(
                    f"{path}: {name}[{place}] is {rows[place]}, but rows ascend from 0 on: run the split step again"
                )
        if len(self.text_image) != len(self.text_rows):
            raise UserError(f"{path}: text_image and text_rows differ in length: run the split step again")
        if not np.array_equal(np.unique(self.text_image), np.arange(len(self.image_rows))):
            raise UserError(f"{path}: text_image does not name each of its images: run the split step again")
        further = self.further_image
        if len(further) != len(self.further_rows) or ((further < 0) | (further >= len(self.image_rows))).any():
            raise UserError(f"{path}: further_image does not name its images: run the split step again")


def select_images(index: PairIndex, chosen: np.ndarray) -> SplitIndex:
    """Return the rows of the images `chosen`, a mask (n_images,), and of all their captions."""
    return every_row(index).of_images(np.flatnonzero(chosen[np.argsort(index.image_rows)]))


def every_row(index: PairIndex) -> SplitIndex:
    """Return the rows of all images and captions of a set."""
    in_file = np.argsort(index.image_rows)
    place = np.empty_like(in_file)
    place[in_file] = np.arange(len(in_file))
    return SplitIndex(
        index.image_rows[in_file],
        np.arange(len(index.pair_image)),
        place[index.pair_image],
        index.further_rows,
        place[index.further_image],
    )


def counts_from_fractions(fractions: Mapping[str, float], images: int) -> dict[str, int]:
    """Return the number of images of each split; every split gets at least one."""
    counts = {name: max(1, round(fractions[name] * images)) for name in SPLITS}
    return counts | {"train": max(1, min(counts["train"], images - counts["val"] - counts["test"]))}


def split_by_counts(image_content: np.ndarray, counts: Mapping[str, int], seed: int) -> np.ndarray:
    """Deal images to splits at random and return each image's split name, (n_images,).

    Images of equal content (bit-identical embeddings) go to one split, so that a count may be missed by such a group.
    """
    wanted = sum(counts[name] for name in SPLITS)
    if wanted > len(image_content):
        listed = ", ".join(f"{name} {counts[name]}" for name in SPLITS)
        raise UserError(
            f"the split asks for {wanted} images ({listed}) but there are {len(image_content)}: "
            "lower `split.counts` or `split.fractions`"
        )
    groups = int(image_content.max()) + 1
    sizes = np.bincount(image_content, minlength=groups)
    order = np.random.default_rng(seed).permutation(groups)
    before = np.concatenate([[0], np.cumsum(sizes[order])[:-1]])
    bounds = np.cumsum([counts[name] for name in SPLITS])
    group_split = np.empty(groups, dtype=object)
    group_split[order] = np.array([*SPLITS, UNUSED], dtype=object)[np.searchsorted(bounds, before, side="right")]
    return group_split[image_content].astype(str)


@dataclass(frozen=True)
class Division:
    """The split name of every image, (n_images,), and how many assigned ids the data lack, by split."""

    names: np.ndarray
    missing: dict[str, int] = field(default_factory=dict)


def split_by_assignments(image_ids: np.ndarray, path: str | Path, missing: str = "refuse") -> Division:
    """Divide images by a JSON file, image id -> split; images that it does not name are unused.

    missing: whether ids are refused or dropped that are assigned to a split, but that the data set lacks. A test set
    without some of its images is not the one that others report.
    """
    assignments = _read_assignments(path, len(image_ids))
    names = np.array([assignments.get(image_id, UNUSED) for image_id in image_ids.tolist()])
    there = set(image_ids.tolist())
    lacking = {image_id: name for image_id, name in assignments.items() if name != UNUSED and image_id not in there}
    counts = {name: list(lacking.values()).count(name) for name in SPLITS}
    for name in SPLITS:
        if not (names == name).any():
            raise UserError(
                f"{path} assigns no image of the data set to {name!r}: check that its ids are the metadata's"
                f"{_examples(lacking, image_ids)}"
            )
    if lacking and missing == "refuse":
        assigned = sum(name != UNUSED for name in assignments.values())
        by_split = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        raise UserError(
            f"{path}: {len(lacking)} of the {assigned} assigned ids are not in the data set ({by_split})"
            f"{_examples(lacking, image_ids)}: correct the ids or add the images, or set `split.missing: drop` to go "
            "on without them"
        )
    return Division(names, counts)


def _read_assignments(path: str | Path, images: int) -> dict[str, str]:
    remedy = f"map image ids to {', '.join(SPLITS)} or {UNUSED}"
    assignments = read_json(path, JSON_BYTES + ASSIGNMENT_BYTES_AN_IMAGE * images, remedy)
    if not isinstance(assignments, dict):
        raise UserError(f"{path} must be a JSON object: {remedy}")
    for image_id, name in assignments.items():
        if not isinstance(name, str) or name not in (*SPLITS, UNUSED):
            raise UserError(
                f"{path}: image {quoted(image_id)} is assigned to {quoted(name)}; "
                f"allowed: {', '.join(SPLITS)}, {UNUSED}"
            )
    return assignments


def _examples(lacking: Mapping[str, str], image_ids: np.ndarray) -> str:
    """Return an assigned id and one of the data set side by side, where another spelling would show."""
    same = {unicodedata.normalize("NFC", image_id): image_id for image_id in image_ids.tolist()}
    for image_id in lacking:
        if other := same.get(unicodedata.normalize("NFC", image_id)):
            return f"; {image_id!a} is {other!a} there, in another Unicode form of the same characters"
    return (
        f"; the first is {quoted(next(iter(lacking)))}, the data set's are like {quoted(str(image_ids[0]))}"
        if lacking
        else ""
    )


def refuse_fewer_than_a_split_needs(images: int) -> None:
    """Refuse a data set of which no division means anything."""
    needed = sum(fewest for fewest, _ in FEWEST.values())
    if images < needed:
        listed = ", ".join(f"{name} {fewest}" for name, (fewest, _) in FEWEST.items())
        raise UserError(
            f"the data set has {images} images where a split needs at least {needed} ({listed}): add images"
        )


def refuse_too_few(names: np.ndarray, image_content: np.ndarray, where: str) -> None:
    """Refuse a division (n_images,) in which a split has so few images that it means nothing.

    image_content: (n_images,) equal numbers mark images that stay together. where: what divides, for the message.
    """
    for split, (fewest, reason) in FEWEST.items():
        count = int((names == split).sum())
        if count >= fewest:
            continue
        group = int(np.bincount(image_content).max())
        together = f"; {group} images share one embedding and stay together" if group > 1 else ""
        raise UserError(
            f"{where} gives {split} {count} of the {len(names)} images: {reason}{together}; raise "
            f"`split.fractions.{split}` or `split.counts.{split}`, or assign it more images"
        )


def tuning_sample(index: PairIndex, train: np.ndarray, pairs: int, seed: int) -> np.ndarray:
    """Return a mask (n_images,) of random training images with at most `pairs` captions in all, but at least two."""
    captions = np.bincount(index.pair_image, minlength=len(train))
    order = np.random.default_rng(seed).permutation(np.flatnonzero(train))
    taken = order[np.cumsum(captions[order]) <= pairs]
    sample = np.zeros_like(train)
    sample[taken if len(taken) >= FEWEST["train"][0] else order[: FEWEST["train"][0]]] = True
    return sample


def refuse_leaks(splits: Mapping[str, SplitIndex]) -> None:
    """Compare the rows of every two splits and refuse a row that stands in both."""
    names = list(splits)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            for rows in ("image_rows", "text_rows"):
                shared = np.intersect1d(getattr(splits[first], rows), getattr(splits[second], rows))
                if len(shared):
                    kind = rows.removesuffix("_rows")
                    raise UserError(
                        f"{len(shared)} {kind} rows stand in both {first} and {second} (first: {shared[0]}): "
                        "the split is leaking; this is a fault of the program, please report it"
                    )


def identical_images_apart(image_content: np.ndarray, names: np.ndarray) -> int:
    """Return how many groups of bit-identical images stand in more than one of train, val and test."""
    used = names != UNUSED
    pairs = {(int(content), name) for content, name in zip(image_content[used], names[used], strict=True)}
    contents = np.array([content for content, _ in pairs])
    return int((np.unique(contents, return_counts=True)[1] > 1).sum())

"""Image-level splits: which rows train, tune, choose and test, as small index files."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import combinations, product
from pathlib import Path

import numpy as np

from frozenalign.data.pair_index import PairIndex, no_rows
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_arrays, write_arrays

SPLITS = ("train", "val", "test")
UNUSED = "unused"
# The fewest images of each split, with the reason.
FEWEST = {
    "train": (2, "a head learns to tell images apart, which takes two"),
    "val": (2, "a single image always ranks first, so that nothing can be chosen by it"),
    "test": (1, "there is nothing to test"),
}


@dataclass(frozen=True)
class SplitIndex:
    """The rows of a split: text row `text_rows[i]` belongs to image row `image_rows[text_image[i]]`.

    image_rows: (n,) ascending rows of the image file.
    text_rows: (m,) ascending rows of the text file.
    text_image: (m,) index into `image_rows`.
    further_rows: (k,) ascending rows of the image file that are averaged with the row of their image.
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
        """Return the SHA-256 of the row numbers."""
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

    def of_pairs(self, pairs: np.ndarray) -> "SplitIndex":
        """Return the ascending pairs (k,) with their images."""
        images, text_image = np.unique(self.text_image[pairs], return_inverse=True)
        place = np.minimum(np.searchsorted(images, self.further_image), len(images) - 1)
        further = images[place] == self.further_image
        return SplitIndex(
            self.image_rows[images],
            self.text_rows[pairs],
            text_image,
            self.further_rows[further],
            place[further],
        )

    @classmethod
    def load(cls, path: str | Path) -> "SplitIndex":
        """Read an index file; one that is missing or damaged is a UserError."""
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
        if problem := index._disorder():
            raise UserError(f"{path}: {problem}: run the split step again")
        return index

    def _disorder(self) -> str | None:
        """Return what is wrong with the rows: not ascending from 0, images without captions or the reverse."""
        for name in ("image_rows", "text_rows", "further_rows"):
            rows = getattr(self, name)
            if len(wrong := np.flatnonzero(np.diff(rows, prepend=-1) <= 0)):
                return f"{name}[{wrong[0]}] is {rows[wrong[0]]}, but rows ascend from 0 on"
        if len(self.text_image) != len(self.text_rows):
            return "text_image and text_rows differ in length"
        if not _names_each(self.text_image, len(self.image_rows)):
            return "text_image does not name each of its images"
        further = self.further_image
        if len(further) != len(self.further_rows) or ((further < 0) | (further >= len(self.image_rows))).any():
            return "further_image does not name its images"
        return None


def _names_each(text_image: np.ndarray, images: int) -> bool:
    """Return whether numbers (m,) are those from 0 to `images` - 1, each at least once."""
    if text_image.min() < 0 or text_image.max() >= images:
        return False
    return bool(np.bincount(text_image, minlength=images).all())


def select_images(index: PairIndex, chosen: np.ndarray) -> SplitIndex:
    """Return the rows of the images `chosen`, a mask (n_images,), and of all their captions."""
    return every_row(index).of_images(np.flatnonzero(chosen))


def every_row(index: PairIndex) -> SplitIndex:
    """Return the rows of all images and captions of a set."""
    texts = np.arange(len(index.pair_image))
    return SplitIndex(index.image_rows, texts, index.pair_image, index.further_rows, index.further_image)


def counts_from_fractions(fractions: Mapping[str, float], images: int) -> dict[str, int]:
    """Return the number of images of each split; every split gets at least one."""
    counts = {name: max(1, round(fractions[name] * images)) for name in SPLITS}
    return counts | {"train": max(1, min(counts["train"], images - counts["val"] - counts["test"]))}


def split_by_counts(image_content: np.ndarray, counts: Mapping[str, int], seed: int) -> np.ndarray:
    """Assign images to splits at random and return each image's split name, (n_images,).

    Images of equal content (bit-identical embeddings) go to one split, so that such a group may change a count.
    """
    wanted = sum(counts[name] for name in SPLITS)
    if wanted > len(image_content):
        listed = ", ".join(f"{name} {counts[name]}" for name in SPLITS)
        raise UserError(
            f"the split needs {wanted} images ({listed}) but there are {len(image_content)}: "
            "lower `split.counts` or `split.fractions`"
        )
    sizes = np.bincount(image_content)
    order = np.random.default_rng(seed).permutation(len(sizes))
    before = np.concatenate([[0], np.cumsum(sizes[order])[:-1]])
    bounds = np.cumsum([counts[name] for name in SPLITS])
    group_split = np.empty(len(sizes), dtype=int)
    group_split[order] = np.searchsorted(bounds, before, side="right")
    return np.array([*SPLITS, UNUSED])[group_split[image_content]]


def refuse_fewer_than_a_split_needs(images: int) -> None:
    """Refuse a data set that is too small for any split."""
    needed = sum(fewest for fewest, _ in FEWEST.values())
    if images < needed:
        listed = ", ".join(f"{name} {fewest}" for name, (fewest, _) in FEWEST.items())
        raise UserError(
            f"the data set has {images} images where a split needs at least {needed} ({listed}): add images"
        )


def refuse_too_few(names: np.ndarray, image_content: np.ndarray, where: str) -> None:
    """Refuse a division (n_images,) in which a split has too few images.

    image_content: (n_images,) equal numbers mark images that stay together. where: what divides, for the message.
    """
    for split, (fewest, reason) in FEWEST.items():
        count = int((names == split).sum())
        if count >= fewest:
            continue
        raise UserError(
            f"{where} gives {split} {count} of the {len(names)} images: {reason}"
            f"{_largest_group(names, image_content)}; raise `split.fractions.{split}` or `split.counts.{split}`, or "
            "assign it more images"
        )


def _largest_group(names: np.ndarray, image_content: np.ndarray) -> str:
    """Return a clause about the most images that share one embedding, empty if none do."""
    sizes = np.bincount(image_content)
    if (size := sizes.max()) < 2:
        return ""
    place = names[image_content == sizes.argmax()]
    return (
        f"; {size} images share one embedding and stay together, here in {place[0]}: give copies one id, leave them "
        "out, or try another `split.seed`"
    )


def tuning_sample(index: PairIndex, train: np.ndarray, pairs: int, seed: int) -> np.ndarray:
    """Return a mask (n_images,) of random training images, at least two, with at most `pairs` captions in all."""
    captions = np.bincount(index.pair_image, minlength=len(train))
    order = np.random.default_rng(seed).permutation(np.flatnonzero(train))
    taken = order[np.cumsum(captions[order]) <= pairs]
    fewest = FEWEST["train"][0]
    sample = np.zeros_like(train)
    sample[taken if len(taken) >= fewest else order[:fewest]] = True
    return sample


def refuse_leaks(splits: Mapping[str, SplitIndex]) -> None:
    """Refuse a row that is in two splits."""
    for (first, second), kind in product(combinations(splits, 2), ("image", "text")):
        rows = (getattr(splits[name], f"{kind}_rows") for name in (first, second))
        # Rows of a split ascend. To find that out by itself, NumPy takes ten times as long.
        shared = np.intersect1d(*rows, assume_unique=True)
        if len(shared):
            raise UserError(
                f"{len(shared)} {kind} rows stand in both {first} and {second} (first: {shared[0]}): "
                "the split is leaking; this is a fault of the program, please report it"
            )

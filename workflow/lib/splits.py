"""Image-level splits: which rows train, tune, choose and test, as small index files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workflow.lib.embeddings import CheckedSet, PairIndex
from workflow.lib.errors import UserError
from workflow.lib.files import JSON_BYTES, read_arrays, read_json, write_arrays
from workflow.lib.quotation import quoted

SPLITS = ("train", "val", "test")
UNUSED = "unused"
ASSIGNMENT_BYTES_AN_IMAGE = 512


@dataclass(frozen=True)
class SplitIndex:
    """The rows of a split: text row `text_rows[i]` belongs to image row `image_rows[text_image[i]]`.

    image_rows: (n,) ascending rows of the image file.
    text_rows: (m,) ascending rows of the text file.
    text_image: (m,) index into `image_rows`.
    """

    image_rows: np.ndarray
    text_rows: np.ndarray
    text_image: np.ndarray

    def save(self, path: str | Path) -> None:
        """Write the index file."""
        write_arrays(path, **{name: values.astype(np.int32) for name, values in vars(self).items()})

    @classmethod
    def load(cls, path: str | Path) -> "SplitIndex":
        """Read an index file."""
        if not Path(path).exists():
            raise UserError(
                f"{Path(path).stem} set not found: {path} is missing; run `snakemake splits` or "
                "`python -m workflow.scripts.split` first"
            )
        arrays = read_arrays(path)
        if set(arrays) != {"image_rows", "text_rows", "text_image"}:
            raise UserError(f"{path} is not a split index: run the split step again")
        for name, values in arrays.items():
            if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values):
                raise UserError(f"{path}: {name} is not a list of row numbers: run the split step again")
        index = cls(**{name: values.astype(np.int64) for name, values in arrays.items()})
        index._refuse_disorder(path)
        return index

    def _refuse_disorder(self, path: str | Path) -> None:
        """Refuse rows that do not ascend from 0 on, and images without captions or captions without their image."""
        for name in ("image_rows", "text_rows"):
            rows = getattr(self, name)
            if rows[0] < 0 or (rows[1:] <= rows[:-1]).any():
                place = int(np.argmax(np.diff(rows, prepend=-1) <= 0))
                raise UserError(
                    f"{path}: {name}[{place}] is {rows[place]}, but rows ascend from 0 on: run the split step again"
                )
        if len(self.text_image) != len(self.text_rows):
            raise UserError(f"{path}: text_image and text_rows differ in length: run the split step again")
        if not np.array_equal(np.unique(self.text_image), np.arange(len(self.image_rows))):
            raise UserError(f"{path}: text_image does not name each of its images: run the split step again")


def select_images(index: PairIndex, chosen: np.ndarray) -> SplitIndex:
    """Return the rows of the images `chosen`, a mask (n_images,), and of all their captions."""
    images = np.flatnonzero(chosen)
    images = images[np.argsort(index.image_rows[images])]
    place = np.full(len(chosen), -1)
    place[images] = np.arange(len(images))
    text_rows = np.flatnonzero(chosen[index.pair_image])
    return SplitIndex(index.image_rows[images], text_rows, place[index.pair_image[text_rows]])


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


def split_by_assignments(image_ids: np.ndarray, path: str | Path) -> np.ndarray:
    """Return each image's split name, (n_images,), as a JSON file image id -> split says; absent images are unused."""
    remedy = f"map image ids to {', '.join(SPLITS)} or {UNUSED}"
    assignments = read_json(path, JSON_BYTES + ASSIGNMENT_BYTES_AN_IMAGE * len(image_ids), remedy)
    if not isinstance(assignments, dict):
        raise UserError(f"{path} must be a JSON object: {remedy}")
    for image_id, name in assignments.items():
        if not isinstance(name, str) or name not in (*SPLITS, UNUSED):
            raise UserError(
                f"{path}: image {quoted(image_id)} is assigned to {quoted(name)}; "
                f"allowed: {', '.join(SPLITS)}, {UNUSED}"
            )
    names = np.array([assignments.get(image_id, UNUSED) for image_id in image_ids.tolist()])
    for name in SPLITS:
        if not (names == name).any():
            raise UserError(
                f"{path} assigns no image of the data set to {name!r}: check that its ids are the metadata's"
            )
    return names


def tuning_sample(index: PairIndex, train: np.ndarray, pairs: int, seed: int) -> np.ndarray:
    """Return a mask (n_images,) of random training images with at most `pairs` captions in all, and at least one."""
    captions = np.bincount(index.pair_image, minlength=len(train))
    order = np.random.default_rng(seed).permutation(np.flatnonzero(train))
    taken = order[np.cumsum(captions[order]) <= pairs]
    sample = np.zeros_like(train)
    sample[taken if len(taken) else order[:1]] = True
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


def manifest(dataset: str, folder: str, checked: CheckedSet, names: np.ndarray, seed: int) -> dict:
    """Return the counts of a division, with input widths and hashes; the leak check's result is added by the caller."""
    pair_names = names[checked.index.pair_image]
    counts = {
        name: {"images": int((names == name).sum()), "pairs": int((pair_names == name).sum())}
        for name in (*SPLITS, UNUSED)
    }
    apart = identical_images_apart(checked.image_content, names)
    return {
        "format": 1,
        "dataset": dataset,
        "folder": folder,
        "images": len(names),
        "pairs": len(pair_names),
        "image_dim": checked.images.width,
        "text_dim": checked.texts.width,
        "seed": seed,
        "splits": {name: counts[name] for name in SPLITS},
        "unused": counts[UNUSED],
        "identical_image_groups": int((np.bincount(checked.image_content) > 1).sum()),
        "leak_check": "passed" if not apart else f"{apart} groups of identical images stand in two splits, as assigned",
        "hashes": checked.hashes,
    }

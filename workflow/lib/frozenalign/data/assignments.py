"""A known split: which images of the data set a file assigns to which split, whatever way it spells their ids."""

import logging
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from frozenalign.data.assignment_files import Assigned, read_assigned
from frozenalign.data.splits import SPLITS, UNUSED
from frozenalign.system.errors import UserError, quoted

logger = logging.getLogger(__name__)
MISSING = ("refuse", "drop")
# COCO_val2014_000000000123.jpg, 000000000123.jpg and 123 are one id.
COCO_NAME = re.compile(r"COCO_(?:train|val|test)\d{4}_")
PICTURE = re.compile(r"\.(?:jpe?g|png|webp|bmp|gif|tiff?)$", re.IGNORECASE)


@dataclass(frozen=True)
class Division:
    """The split name of every image, (n_images,), and how many assigned ids the data lack, by split."""

    names: np.ndarray
    missing: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Assignments:
    """What a file assigns: a split for each image id, for each kind of id that it has."""

    path: Path
    kinds: list[Assigned]

    @classmethod
    def read(cls, path: str | Path, images: int) -> "Assignments":
        """Read a file in one of the forms of `assignment_files`, for a data set of so many images."""
        return cls(Path(path), read_assigned(path, images))

    def by_ids_of(self, image_ids: Iterable[str]) -> dict[str, str]:
        """Return the split by image id: of the kind of id of which the data have most, in their spelling.

        Other spellings count only if the data have no id as it stands in the file.
        """
        kind, same = self._matched(image_ids)
        return {same.get(image_id, image_id): name for image_id, name in kind.splits.items()}

    def name_both(self, first: Iterable[str], second: Iterable[str]) -> bool:
        """Return whether they assign images of a first set, and others that only a second one has, to splits."""
        first, second = set(first), set(second)
        used = {image_id for image_id, name in self.by_ids_of(first | second).items() if name != UNUSED}
        return not used.isdisjoint(first) and not used.isdisjoint(second - first)

    def described(self, image_ids: Iterable[str]) -> str:
        """Return which ids of the file are taken and how they are spelled, empty if that goes without saying."""
        kind, same = self._matched(image_ids)
        assigned, own = next(iter(same.items()), (None, None))
        if not same or (kind.field is None and assigned == own):
            return ""
        ids = f"ids, {kind.field}," if kind.field else "ids"
        spelled = "" if assigned == own else f", where {quoted(assigned)} is written {quoted(own)}"
        return f"{len(same)} of its {len(kind.splits)} {ids} are in the data set{spelled}"

    def _matched(self, image_ids: Iterable[str]) -> tuple[Assigned, dict[str, str]]:
        """Return the kind of id that is taken, and the data's spelling of each of its ids that the data have."""
        image_ids = list(dict.fromkeys(image_ids))
        for spelling in (str, plain_id):
            matched = [_matched(kind.splits, image_ids, spelling) for kind in self.kinds]
            best = max(range(len(matched)), key=lambda number: len(matched[number]))
            if matched[best]:
                return self.kinds[best], matched[best]
        return self.kinds[0], {}


def split_by_assignments(image_ids: np.ndarray, assignments: Assignments, missing: str = "refuse") -> Division:
    """Divide images by a file that assigns them; images that it does not name are unused.

    missing: "refuse" or "drop" ids that are assigned to a split but missing from the data. Results on a test set that
    lacks images do not compare with those of others.
    """
    assigned, path = assignments.by_ids_of(image_ids.tolist()), assignments.path
    if said := assignments.described(image_ids.tolist()):
        logger.info("%s: %s", path, said)
    names = np.array([assigned.get(image_id, UNUSED) for image_id in image_ids.tolist()])
    there = set(image_ids.tolist())
    lacking = {image_id: name for image_id, name in assigned.items() if name != UNUSED and image_id not in there}
    counts = {name: list(lacking.values()).count(name) for name in SPLITS}
    for name in SPLITS:
        if name not in names:
            raise UserError(
                f"{path} assigns no image of the data set to {name!r}: check that it uses the ids of the metadata"
                f"{_examples(lacking, image_ids)}"
            )
    if lacking and missing == "refuse":
        used = sum(name != UNUSED for name in assigned.values())
        by_split = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        raise UserError(
            f"{path}: {len(lacking)} of the {used} assigned ids are not in the data set ({by_split})"
            f"{_examples(lacking, image_ids)}: correct the ids or add the images, or set `split.missing: drop` to go "
            "on without them"
        )
    return Division(names, counts)


def plain_id(image_id: str) -> str:
    """Return an id without folders, COCO's prefix, the ending of a picture's file and leading zeros of a number."""
    name = PICTURE.sub("", COCO_NAME.sub("", image_id.rpartition("/")[2]))
    return (name.lstrip("0") or "0") if name.isascii() and name.isdigit() else name


def _matched(splits: Mapping[str, str], image_ids: Sequence[str], spelling: Callable[[str], str]) -> dict[str, str]:
    """Return the image id of each assigned id that is the same once both are spelled in one way.

    None match if that makes one id of two.
    """
    own = {spelling(image_id): image_id for image_id in image_ids}
    matched = {assigned: own[plain] for assigned in splits if (plain := spelling(assigned)) in own}
    return matched if len(own) == len(image_ids) and len(set(matched.values())) == len(matched) else {}


def _examples(lacking: Mapping[str, str], image_ids: np.ndarray) -> str:
    """Return a missing assigned id beside one of the data set, to show a difference in spelling."""
    if not lacking:
        return ""
    same = {unicodedata.normalize("NFC", image_id): image_id for image_id in image_ids.tolist()}
    for image_id in lacking:
        if other := same.get(unicodedata.normalize("NFC", image_id)):
            return f"; {image_id!a} is {other!a} there, in another Unicode form of the same characters"
    return f"; the first is {quoted(next(iter(lacking)))}, the data set has ids like {quoted(str(image_ids[0]))}"

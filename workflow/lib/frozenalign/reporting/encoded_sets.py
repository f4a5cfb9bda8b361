"""Several encodings of one set, each with its split and its results, and the checks that they can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from frozenalign.configuration.result_files import read_result
from frozenalign.data.given_files import PAIRS
from frozenalign.system.errors import UserError

SIDES = ("images", "texts")
DIVISIONS = ("train", "val", "test")
MEASURES = {"cka": "CKA", "mutual_neighbours": "mutual k-NN"}


@dataclass(frozen=True)
class EncodedSet:
    """A data set that is one pair of encodings: its folder, results/DATASET, with what two of its files hold.

    manifest: of its split. similarity: of its encoders.
    """

    folder: Path
    manifest: Mapping[str, Any]
    similarity: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return the name of the data set."""
        return self.folder.name

    @property
    def encodings(self) -> dict[str, str]:
        """Return the name of the encoding of each side, that of the data set where no record says what encoded it."""
        recorded = self.manifest["encoding"]
        return {side: recorded[side]["encoder"] if recorded else self.name for side in SIDES}


def read_set(folder: Path) -> EncodedSet:
    """Read the manifest of a data set and the similarity of its encoders, which is to be of the same split."""
    path = folder / "encodings" / "encoder_similarity.json"
    manifest, similarity = read_result(folder / "split" / "manifest.json"), read_result(path)
    if similarity["hashes"] != manifest["hashes"] or similarity["rows"] != manifest["rows"]["train"]:
        raise UserError(
            f"{path} is not of the split in {folder / 'split'}: run `python -m workflow.scripts.compare_encoders` again"
        )
    return EncodedSet(folder, manifest, similarity)


def refuse_other_pairs(sets: Sequence[EncodedSet]) -> None:
    """Refuse sets of other images or captions than the first, and those whose images are divided in another way."""
    first = sets[0]
    for each in sets[1:]:
        if each.manifest["hashes"].get(PAIRS) != first.manifest["hashes"].get(PAIRS):
            raise UserError(
                f"{each.folder} has other images or captions than {first.folder}, so that their heads cannot be "
                "compared: encode the same pictures and captions in both; a picture that one cannot read counts"
            )
        for part in DIVISIONS:
            if each.manifest["rows"][part] != first.manifest["rows"][part]:
                raise UserError(
                    f"{each.folder} divides the images in another way than {first.folder}, first seen in {part}: "
                    "bit-identical rows of images stay together, and the encodings differ in these; name the same "
                    "`split.assignments` for both, which gives each image its part"
                )
    names = [tuple(each.encodings.values()) for each in sets]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UserError(
                f"{sets[place].folder} and {sets[names.index(name)].folder} are both {' and '.join(name)}: leave one "
                "out, or give an encoding another name"
            )


def similarity_table(sets: Sequence[EncodedSet]) -> pd.DataFrame:
    """Return one row for each set: its encodings and widths, and how alike its encoders are, most alike first."""
    rows = [
        {
            **each.encodings,
            "image_width": each.manifest["image_dim"],
            "text_width": each.manifest["text_dim"],
            "cka": np.nan if each.similarity["cka"] is None else each.similarity["cka"],
            "mutual_neighbours": each.similarity["mutual_neighbours"],
            "chance_neighbours": each.similarity["chance"],
            "sampled_images": each.similarity["images"],
        }
        for each in sets
    ]
    return pd.DataFrame(rows).sort_values("mutual_neighbours", ascending=False, ignore_index=True, kind="stable")

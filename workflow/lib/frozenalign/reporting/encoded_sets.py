"""Several encodings of one set, each with its split and its results, and the checks that they can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from frozenalign.configuration.result_files import read_result
from frozenalign.configuration.variants import checked_name
from frozenalign.data.given_files import PAIRS
from frozenalign.data.splits import SPLITS
from frozenalign.system.errors import UserError

SIDES = ("images", "texts")
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
    found = EncodedSet(folder, manifest, similarity)
    for side, name in found.encodings.items():
        # Tables and pages show the name, which a file of others may hold.
        checked_name(name, f"{folder / 'split' / 'manifest.json'}: encoding.{side}.encoder")
    return found


def refuse_other_pairs(sets: Sequence[EncodedSet]) -> None:
    """Refuse sets of other images or captions than the first, and those whose images are divided in another way."""
    first = sets[0]
    for each in sets[1:]:
        if each.manifest["hashes"].get(PAIRS) != first.manifest["hashes"].get(PAIRS):
            raise UserError(
                f"{each.folder} has other images or captions than {first.folder}, so that their heads cannot be "
                "compared: encode the same pictures and captions in both; a picture that one cannot read counts"
            )
        for part in SPLITS:
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


def in_order_of(sets: Sequence[EncodedSet], table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of pairs in the order of the sets, in which layers ascend."""
    place = {tuple(each.encodings.values()): number for number, each in enumerate(sets)}
    keys = [place[images, texts] for images, texts in zip(table["images"], table["texts"], strict=True)]
    return table.iloc[sorted(range(len(keys)), key=keys.__getitem__)].reset_index(drop=True)

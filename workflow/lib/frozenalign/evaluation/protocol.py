"""The evaluation protocol: which files and which captions a model is evaluated on."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from frozenalign.data.embeddings import EmbeddingFiles
from frozenalign.data.inputs import EXTRA_SET, TRAINING_SET
from frozenalign.data.manifests import KNOWN_HASHES, SplitFiles, open_split
from frozenalign.data.splits import SplitIndex
from frozenalign.system.fingerprints import content_hash


@dataclass(frozen=True)
class Protocol:
    """What a model is evaluated on: folders of the embeddings and of their split, name of the split, captions rule."""

    data_dir: Path
    split_dir: Path
    split: str
    captions_rule: str

    def open(self) -> SplitFiles:
        """Open the splits that an evaluation reads: train, val and the evaluated one."""
        return open_split(self.data_dir, self.split_dir, self._splits())

    def content(self) -> str:
        """Return one SHA-256 of all files that an evaluation reads besides the model, missing ones counted as such."""
        sets = [path for name in (TRAINING_SET, EXTRA_SET) for path in EmbeddingFiles.of(self.data_dir, name)]
        names = ["manifest.json", *(f"{name}.npz" for name in self._splits())]
        return content_hash([*sets, *(self.split_dir / name for name in names)], self.split_dir / KNOWN_HASHES)

    def _splits(self) -> list[str]:
        return list(dict.fromkeys(["train", "val", self.split]))


def captions_by_rule(split: SplitIndex, rule: str) -> SplitIndex:
    """Return the split with the captions that the rule keeps: all, or each image's first five in file order."""
    if rule == "all":
        return split
    order = np.argsort(split.text_image, kind="stable")
    captions = np.bincount(split.text_image, minlength=len(split.image_rows))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - np.repeat(np.cumsum(captions) - captions, captions)
    kept = place < 5
    return replace(split, text_rows=split.text_rows[kept], text_image=split.text_image[kept])

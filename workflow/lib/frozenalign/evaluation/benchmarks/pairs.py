"""The pairs of an evaluation set, with their ids."""

from dataclasses import dataclass

import numpy as np

from frozenalign.data.embeddings import EmbeddingFiles, Metadata, check_set
from frozenalign.data.inputs import TRAINING_SET
from frozenalign.data.manifests import open_sets
from frozenalign.data.pairs import PairFiles
from frozenalign.data.splits import SplitIndex, every_row
from frozenalign.evaluation.benchmarks.registry import AskedSet
from frozenalign.evaluation.protocol import captions_by_rule
from frozenalign.system.errors import UserError, quoted


@dataclass(frozen=True)
class NamedPairs:
    """N images with M captions by their ids, which are text: image_ids (N,) and caption_ids (M,), if they have any.

    caption_image: (M,) index of each caption's image. where: what messages call them.
    """

    caption_image: np.ndarray
    image_ids: np.ndarray
    caption_ids: np.ndarray | None
    where: str
    warnings: list[str]

    def named_captions(self) -> np.ndarray:
        """Return the ids of the captions, (M,); without any, or where one stands twice, a UserError."""
        if self.caption_ids is None:
            raise UserError(
                f"{self.where} has no `caption_ids`, by which positives are listed: add them to its metadata"
            )
        ordered = np.sort(self.caption_ids)
        if len(twice := ordered[1:][ordered[1:] == ordered[:-1]]):
            raise UserError(
                f"{self.where}: caption_ids has {quoted(str(twice[0]))} twice: give each caption an id of its own"
            )
        return self.caption_ids


def named_pairs(asked: AskedSet) -> tuple[PairFiles, NamedPairs]:
    """Return the pairs of the folder of an evaluation set, or of the protocol's split without one, with their ids."""
    return _of_the_split(asked) if asked.folder is None else _of_a_folder(asked)


def _of_the_split(asked: AskedSet) -> tuple[PairFiles, NamedPairs]:
    protocol = asked.protocol
    opened = protocol.open()
    _, _, metadata, _ = open_sets(protocol.data_dir, protocol.split_dir, opened.manifest)
    pairs = opened.pairs[protocol.split]
    split = captions_by_rule(pairs.split, protocol.captions_rule)
    where = f"the metadata in {protocol.data_dir}"
    return _named(PairFiles(pairs.images, pairs.texts, split), metadata, where, [])


def _of_a_folder(asked: AskedSet) -> tuple[PairFiles, NamedPairs]:
    files = EmbeddingFiles.of(asked.folder, TRAINING_SET)
    checked = check_set(files)
    doubts = asked.doubts(checked.images, checked.texts, checked.hashes, checked.index.image_rows)
    split = captions_by_rule(every_row(checked.index), asked.protocol.captions_rule)
    pairs = PairFiles(checked.images, checked.texts, split)
    return _named(pairs, checked.metadata, str(files.metadata), [*checked.warnings, *doubts])


def _named(files: PairFiles, metadata: Metadata, where: str, warnings: list[str]) -> tuple[PairFiles, NamedPairs]:
    split = files.split
    caption_ids = None if metadata.caption_ids is None else metadata.caption_ids[split.text_rows]
    return files, NamedPairs(split.text_image, _image_ids(split, metadata), caption_ids, where, warnings)


def _image_ids(split: SplitIndex, metadata: Metadata) -> np.ndarray:
    """Return the id of each image, (N,), that of any of its captions."""
    found = np.empty(len(split.image_rows), dtype=metadata.image_ids.dtype)
    found[split.text_image] = metadata.image_ids[split.text_rows]
    return found

"""manifest.json of a split: what it was made from and what it holds, and the check that the files are still those."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frozenalign.data.embeddings import TRAINING_SET, CheckedSet, EmbeddingFiles, Metadata
from frozenalign.data.given_files import PAIRS, pairs_digest
from frozenalign.data.inputs import Manifest
from frozenalign.data.pairs import PairFiles
from frozenalign.data.rows import open_rows
from frozenalign.data.splits import SPLITS, UNUSED, Division, SplitIndex
from frozenalign.system.errors import UserError
from frozenalign.system.files import write_json
from frozenalign.system.fingerprints import remember_hashes, remembered_hash

logger = logging.getLogger(__name__)
FORMAT = 2
KNOWN_HASHES = "content_hashes.json"


@dataclass(frozen=True)
class SplitFiles:
    """A split together with the embedding files that it was made from: its manifest, and its pairs by split."""

    manifest: Manifest
    pairs: dict[str, PairFiles]


def open_split(data_dir: Path, split_dir: Path, names: Sequence[str]) -> SplitFiles:
    """Open the embedding files with the index of the named splits, reading no embedding.

    Files that the split was not made from are refused: their rows would be other images. A large file is read once to
    compute its hash, which is then kept until its size or times change.
    """
    files = EmbeddingFiles.of(data_dir, TRAINING_SET)
    indices = {name: SplitIndex.load(split_dir / f"{name}.npz") for name in names}
    manifest = Manifest.read(split_dir)
    counts = ", ".join(f"{name} {len(index.text_rows)}" for name, index in indices.items())
    logger.info("the split in %s: %s pairs", split_dir, counts)
    images, texts = open_rows(files.images), open_rows(files.texts)
    for path in (files.images, files.texts):
        if remembered_hash(path, split_dir / KNOWN_HASHES) != manifest.hashes.get(path.name):
            raise UserError(
                f"{path} is not the file that the split in {split_dir} was made from: run the split step again, or put "
                "that file back"
            )
    for name, index in indices.items():
        if index.digest() != manifest.rows.get(name):
            raise UserError(
                f"{split_dir / name}.npz is not of the split that {split_dir / 'manifest.json'} describes: run the "
                "split step again"
            )
    return SplitFiles(manifest, {name: PairFiles(images, texts, index) for name, index in indices.items()})


def pairs_of(metadata: Metadata) -> str:
    """Return the SHA-256 of the image ids that metadata give to the rows."""
    return pairs_digest(metadata.image_ids, metadata.unique_ids)


def write_manifest(
    split_dir: Path,
    described: Mapping[str, Any],
    checked: CheckedSet,
    division: Division,
    splits: Mapping[str, SplitIndex],
    found: Mapping[str, Any],
) -> dict[str, Any]:
    """Write and return manifest.json: counts, widths, hashes, and the keys of `described` and `found`.

    described: dataset, folder, seed and encoding. splits: every split by name. found: leak_check, warnings and extra.
    """
    index, unused = checked.index, division.names == UNUSED
    content = {
        "format": FORMAT,
        **described,
        "images": len(unused),
        "pairs": len(index.pair_image),
        "image_dim": checked.images.width,
        "text_dim": checked.texts.width,
        "splits": {
            name: {"images": len(split.image_rows), "pairs": len(split.text_rows)} for name, split in splits.items()
        },
        "unused": {"images": int(unused.sum()), "pairs": int(unused[index.pair_image].sum())},
        "missing": {name: division.missing.get(name, 0) for name in SPLITS},
        "identical_image_groups": int((np.bincount(checked.image_content) > 1).sum()),
        "averaged_images": len(np.unique(index.further_image)),
        **found,
        "hashes": checked.hashes | {PAIRS: pairs_of(checked.metadata)},
        "rows": {name: split.digest() for name, split in splits.items()},
    }
    write_json(split_dir / "manifest.json", content)
    files = (checked.images.path, checked.texts.path)
    remember_hashes({path: checked.hashes[path.name] for path in files}, split_dir / KNOWN_HASHES)
    return content

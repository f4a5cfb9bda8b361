"""Check the embeddings of a data set and divide its images into train, train_tuning, val and test."""

import argparse
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workflow.lib.embeddings import CheckedSet, EmbeddingFiles, check_set
from workflow.lib.errors import UserError, run
from workflow.lib.files import write_json
from workflow.lib.locks import only_writer
from workflow.lib.quotation import quoted
from workflow.lib.splits import (
    SPLITS,
    SplitIndex,
    counts_from_fractions,
    manifest,
    refuse_leaks,
    select_images,
    split_by_assignments,
    split_by_counts,
    tuning_sample,
)

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the split's index files and its manifest."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with only_writer(arguments.output_dir):
        _write_split(arguments)


def _write_split(arguments: argparse.Namespace) -> None:
    checked = check_set(EmbeddingFiles.of(arguments.data_dir, "train2017"))
    names = _division(arguments, checked)
    train = names == "train"
    chosen = {name: names == name for name in SPLITS}
    chosen["train_tuning"] = tuning_sample(checked.index, train, arguments.tuning_pairs, arguments.seed)
    paths = {name: arguments.output_dir / f"{name}.npz" for name in chosen}
    for name, path in paths.items():
        select_images(checked.index, chosen[name]).save(path)
    written = {name: SplitIndex.load(path) for name, path in paths.items()}
    refuse_leaks({name: written[name] for name in SPLITS})
    content = manifest(arguments.dataset, str(arguments.data_dir), checked, names, arguments.seed)
    content["splits"]["train_tuning"] = {
        "images": len(written["train_tuning"].image_rows),
        "pairs": len(written["train_tuning"].text_rows),
    }
    write_json(arguments.output_dir / "manifest.json", content)
    for name, counts in (content["splits"] | {"unused": content["unused"]}).items():
        logger.info("%-12s %7d images %7d pairs", name, counts["images"], counts["pairs"])
    logger.info("leak check: %s", content["leak_check"])


def _division(arguments: argparse.Namespace, checked: CheckedSet) -> np.ndarray:
    """Return the split name of every image, (n_images,)."""
    if arguments.assignments:
        return split_by_assignments(checked.index.image_ids, arguments.assignments)
    counts = arguments.counts or counts_from_fractions(arguments.fractions, len(checked.index.image_ids))
    return split_by_counts(checked.image_content, counts, arguments.seed)


def _shares(text: str) -> dict[str, float]:
    """Parse a JSON object with one number for each split."""
    try:
        shares = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f'{quoted(text)} is not JSON: write {{"train": 0.8, "val": 0.01, "test": 0.04}}') from error
    if not isinstance(shares, dict) or set(shares) != set(SPLITS):
        raise UserError(f"{quoted(text)}: write exactly the keys {', '.join(SPLITS)}")
    for name, share in shares.items():
        if type(share) not in (int, float) or not 0 < share < math.inf:
            raise UserError(f"{quoted(text)}: {name} is {quoted(share)}: write a number above 0")
    return shares


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.split", description=__doc__)
    parser.add_argument("--dataset", required=True, help="name of the data set, for the manifest")
    parser.add_argument("--data-dir", required=True, type=Path, help="folder with the train2017_* files")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the index files and manifest.json")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--fractions", type=_shares, help='shares of the images, {"train": 0.8, "val": 0.01, "test": 0.04}'
    )
    how.add_argument("--counts", type=_shares, help='numbers of images, {"train": 6000, "val": 1000, "test": 1000}')
    how.add_argument("--assignments", help="JSON file that maps each image id to train, val, test or unused")
    parser.add_argument("--seed", type=int, default=42, help="seed of the division and of the tuning sample (42)")
    parser.add_argument("--tuning-pairs", type=int, default=100_000, help="pairs in train_tuning at the most (100000)")
    return parser


if __name__ == "__main__":
    run(main)

"""Check the embeddings of a data set and divide its images into train, train_tuning, val and test."""

import argparse
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.data.assignments import MISSING, Assignments, Division, split_by_assignments
from frozenalign.data.embeddings import CheckedSet, EmbeddingFiles, check_extra_set, check_set
from frozenalign.data.encoding import read_encoding
from frozenalign.data.inputs import EXTRA_SET, TRAINING_SET
from frozenalign.data.joined_sets import checked_as_one
from frozenalign.data.manifests import write_manifest
from frozenalign.data.split_findings import find, warning_lines
from frozenalign.data.splits import (
    SPLITS,
    SplitIndex,
    counts_from_fractions,
    refuse_fewer_than_a_split_needs,
    refuse_leaks,
    refuse_too_few,
    select_images,
    split_by_counts,
    tuning_sample,
)
from frozenalign.system.errors import UserError, quoted, run
from frozenalign.system.files import path_text
from frozenalign.system.locks import only_writer
from frozenalign.system.random_state import refuse_negative_seed
from frozenalign.system.threads import one_thread

logger = logging.getLogger(__name__)

INDICES = (*SPLITS, "train_tuning")


def main(argv: Sequence[str] | None = None) -> None:
    """Write the split's index files and its manifest."""
    arguments = _parser().parse_args(argv)
    refuse_negative_seed(arguments.seed)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with only_writer(arguments.output_dir), one_thread():
        refuse_foreign_results(arguments.output_dir, (*(f"{name}.npz" for name in INDICES), "manifest.json"))
        _write_split(arguments)


def _write_split(arguments: argparse.Namespace) -> None:
    checked = check_set(EmbeddingFiles.of(arguments.data_dir, TRAINING_SET))
    extra = check_extra_set(arguments.data_dir, checked.images, checked.texts)
    assignments = _assignments(arguments, checked, extra)
    if assignments and extra and assignments.name_both(checked.index.image_ids, extra.index.image_ids):
        logger.info("%s names images of %s and %s: they are one data set", assignments.path, TRAINING_SET, EXTRA_SET)
        checked, extra = checked_as_one(checked, extra), None
    refuse_fewer_than_a_split_needs(len(checked.index.image_ids))
    division = _division(arguments, checked, assignments)
    refuse_too_few(division.names, checked.image_content, arguments.assignments or "the split")
    splits = _written_splits(arguments, checked, division)
    findings = find(checked, division, splits, {EXTRA_SET: extra} if extra else {})
    described = {"dataset": arguments.dataset, "folder": path_text(arguments.data_dir), "seed": arguments.seed}
    described["encoding"] = read_encoding(arguments.data_dir, checked.hashes)
    content = write_manifest(arguments.output_dir, described, checked, division, splits, vars(findings))
    for name, counts in (content["splits"] | {"unused": content["unused"]}).items():
        logger.info("%-12s %7d images %7d pairs", name, counts["images"], counts["pairs"])
    logger.info("leak check: %s", findings.leak_check)
    for line in warning_lines(findings):
        logger.warning("warning: %s", line)
    images = ", ".join(f"{name} {content['splits'][name]['images']}" for name in SPLITS)
    logger.info("found: images in %s", images)


def _written_splits(arguments: argparse.Namespace, checked: CheckedSet, division: Division) -> dict[str, SplitIndex]:
    """Write the index file of every split, and return what can be read of it."""
    chosen = {name: division.names == name for name in SPLITS}
    sample = tuning_sample(checked.index, chosen["train"], arguments.tuning_pairs, arguments.seed)
    paths = {name: arguments.output_dir / f"{name}.npz" for name in INDICES}
    for name, path in paths.items():
        select_images(checked.index, sample if name == "train_tuning" else chosen[name]).save(path)
    written = {name: SplitIndex.load(path) for name, path in paths.items()}
    refuse_leaks({name: written[name] for name in SPLITS})
    return written


def _assignments(arguments: argparse.Namespace, checked: CheckedSet, extra: CheckedSet | None) -> Assignments | None:
    """Read the file that assigns the images, if there is one."""
    images = sum(len(each.index.image_ids) for each in (checked, extra) if each)
    return Assignments.read(arguments.assignments, images) if arguments.assignments else None


def _division(arguments: argparse.Namespace, checked: CheckedSet, assignments: Assignments | None) -> Division:
    """Return the split of every image."""
    if assignments:
        return split_by_assignments(checked.index.image_ids, assignments, arguments.missing)
    counts = arguments.counts or counts_from_fractions(arguments.fractions, len(checked.index.image_ids))
    return Division(split_by_counts(checked.image_content, counts, arguments.seed))


def _fractions(text: str) -> dict[str, float]:
    """Parse shares that leave no image to two splits."""
    shares = _shares(text)
    # One above 1 may be too large an integer to be added to a float.
    if max(shares.values()) > 1 or sum(shares.values()) > 1 + 1e-9:
        raise UserError(f"{quoted(text)}: they add up to more than 1: lower them to at most 1 in all")
    return shares


def _counts(text: str) -> dict[str, int]:
    """Parse whole numbers of images."""
    shares = _shares(text)
    for name, share in shares.items():
        if share != int(share):
            raise UserError(f"{quoted(text)}: {name} is {quoted(share)}: write a whole number of images")
    return {name: int(share) for name, share in shares.items()}


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
        "--fractions", type=_fractions, help='shares of the images, {"train": 0.8, "val": 0.01, "test": 0.04}'
    )
    how.add_argument("--counts", type=_counts, help='numbers of images, {"train": 6000, "val": 1000, "test": 1000}')
    how.add_argument("--assignments", help="file with the split of each image id: JSON, CSV, TSV, Karpathy's")
    parser.add_argument(
        "--missing", default="refuse", choices=MISSING, help="what to do with assigned ids that the data lack (refuse)"
    )
    parser.add_argument("--seed", type=int, default=42, help="seed of the division and of the tuning sample (42)")
    parser.add_argument("--tuning-pairs", type=int, default=100_000, help="pairs in train_tuning at the most (100000)")
    return parser


if __name__ == "__main__":
    run(main)

"""Reasons not to trust the numbers of an evaluation."""

import logging
from collections.abc import Sequence

from frozenalign.data.embeddings import CheckedSet
from frozenalign.data.inputs import EXTRA_SET, Inputs, Manifest
from frozenalign.data.manifests import SplitFiles
from frozenalign.data.pair_index import PairIndex
from frozenalign.data.split_findings import extra_doubts
from frozenalign.evaluation.members import Member
from frozenalign.evaluation.protocol import Protocol
from frozenalign.system.errors import UserError

logger = logging.getLogger(__name__)


def log_doubts(members: Sequence[Member], manifest: Manifest, protocol: Protocol) -> list[str]:
    """Return and log the reasons not to trust the numbers: those of the split and those of the training."""
    found = [*manifest.warnings, *(text for member in members for text in member.facts["warnings"])]
    found += [text for member in members for text in seen_by(member, manifest, protocol)]
    if protocol.split == "val":
        found.append("the validation split is tested, by which models were chosen: the numbers are too high")
    warnings = list(dict.fromkeys(found))
    for text in warnings:
        logger.warning("warning: %s", text)
    return warnings


def seen_by(member: Member, manifest: Manifest, protocol: Protocol) -> list[str]:
    """Return a warning if a model was trained on other embeddings; one trained on another split is refused."""
    trained, name = Inputs(**member.facts["inputs"]), member.facts["experiment"]
    expected = manifest.inputs()
    if trained.val == expected.val and trained.train in (expected.train, manifest.rows["train_tuning"]):
        if (trained.images, trained.texts) == (expected.images, expected.texts):
            return []
        return [f"{name} was trained on other embeddings of these rows than it is tested on"]
    if trained.images == expected.images:
        raise UserError(
            f"{member.path} was trained on another split of these images than {protocol.split_dir} and may have seen "
            f"{protocol.split} images: give the split that it was trained on, or train it on this one"
        )
    return [
        f"{name} was trained on another data set: if images of this one were in it, {protocol.split} does not measure "
        "unseen images"
    ]


def log_doubts_about_extra(extra: CheckedSet, index: PairIndex, opened: SplitFiles) -> list[str]:
    """Return and log the doubts about the extra set; index: the pairs of the set that was split."""
    known = opened.manifest.extra.get(EXTRA_SET, {})
    # A set that was added or changed after the split has not been checked against it yet.
    checked_before = known.get("hashes") == extra.hashes
    train, val = opened.pairs["train"], opened.pairs["val"]
    warnings = known["warnings"] if checked_before else extra_doubts(extra, index, train, val)
    for text in warnings:
        logger.warning("warning: %s: %s", EXTRA_SET, text)
    return warnings

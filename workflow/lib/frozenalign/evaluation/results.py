"""The folder evaluation_results of a run: a model evaluated, and everything that is written of it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from frozenalign.data.embeddings import EXTRA_SET, TRAINING_SET, EmbeddingFiles, Metadata, check_extra_set, open_set
from frozenalign.data.given_files import PAIRS
from frozenalign.data.manifests import Inputs, Manifest, SplitFiles, open_split, pairs_of
from frozenalign.data.pair_index import PairIndex
from frozenalign.data.pairs import PairFiles
from frozenalign.data.split_findings import extra_doubts
from frozenalign.data.splits import SplitIndex, every_row
from frozenalign.evaluation.diagnostics import diagnostics
from frozenalign.evaluation.examples import retrieval_examples, worst_queries
from frozenalign.evaluation.hubness import ChosenCorrection, choose_correction, project_sample
from frozenalign.evaluation.metrics import DIRECTIONS, RECALLS, SECOND_RANKINGS
from frozenalign.evaluation.projections import project_files
from frozenalign.evaluation.protocol import (
    Circumstances,
    Evaluation,
    captions_by_rule,
    evaluate,
    metrics_document,
    rank_arrays,
)
from frozenalign.evaluation.samples import drawn_samples
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.errors import UserError
from frozenalign.system.files import file_hash, write_arrays, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Protocol:
    """What a model is evaluated on: the folders of embeddings and of their split, the split, and its captions' rule."""

    data_dir: Path
    split_dir: Path
    split: str
    captions_rule: str

    def open(self) -> SplitFiles:
        """Open the splits that an evaluation reads: those that train and choose, and the one that is evaluated."""
        return open_split(self.data_dir, self.split_dir, list(dict.fromkeys(["train", "val", self.split])))


@dataclass(frozen=True)
class Member:
    """A trained model, or one of an ensemble: its file, and the facts that stand in it."""

    path: Path
    facts: Mapping[str, Any]


def write_evaluation(
    output: Path,
    model: DualEncoder,
    facts: Mapping[str, Any],
    members: Sequence[Member],
    protocol: Protocol,
    device: torch.device,
) -> None:
    """Evaluate a model and write metrics.json, ranks.npz, examples.json, worst_queries.json and samples.npz.

    facts: who is evaluated and how it was chosen. members: what was trained, refused where it has seen the test rows.
    """
    opened, rule = protocol.open(), protocol.captions_rule
    warnings = _warnings(members, opened.manifest, protocol)
    metadata, index = _metadata_and_index(protocol, opened.manifest)
    files = opened.pairs[protocol.split]
    split = captions_by_rule(files.split, rule)
    files = replace(files, split=split)
    correction = choose_correction(
        project_sample(model, opened.pairs["train"], device), project_files(model, opened.pairs["val"], device)
    )
    main_set = evaluate(model, files, protocol.split, rule, device, correction)
    extra = _extra_set(model, index, opened, protocol, device, correction)
    diagnosed = diagnostics(main_set, files, _captions(split, metadata))
    circumstances = Circumstances(
        opened.manifest.rows[protocol.split],
        _inputs(opened.manifest, protocol) | (extra.hashes if extra else {}),
        [file_hash(member.path) for member in members],
        warnings,
    )
    sets = {EXTRA_SET: extra.evaluation} if extra else {}
    write_json(output / "metrics.json", metrics_document(facts, main_set, diagnosed, sets, circumstances))
    write_arrays(output / "ranks.npz", **rank_arrays(main_set))
    write_json(output / "examples.json", retrieval_examples(main_set, split, metadata))
    write_json(output / "worst_queries.json", worst_queries(main_set, split, metadata))
    write_arrays(output / "samples.npz", **drawn_samples(main_set.projections))
    for name, evaluation in {protocol.split: main_set, **sets}.items():
        _log(name, evaluation.metrics)
    logger.info("written to %s", output)
    logger.info("found: %s RSUM %.1f", protocol.split, main_set.metrics["full"]["RSUM"])


def _warnings(members: Sequence[Member], manifest: Manifest, protocol: Protocol) -> list[str]:
    """Return, and log, what makes the numbers of a split mean less than they seem: by its making, and by training."""
    found = [*manifest.warnings, *(text for member in members for text in member.facts["warnings"])]
    found += [text for member in members for text in _seen_by(member, manifest, protocol)]
    if protocol.split == "val":
        found.append("the validation split is tested, by which models were chosen: the numbers are too high")
    warnings = list(dict.fromkeys(found))
    for text in warnings:
        logger.warning("warning: %s", text)
    return warnings


def _seen_by(member: Member, manifest: Manifest, protocol: Protocol) -> list[str]:
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


def _metadata_and_index(protocol: Protocol, manifest: Manifest) -> tuple[Metadata, PairIndex]:
    """Return metadata and pairs of the set that was split, refused where its pairs are others now."""
    files = EmbeddingFiles.of(protocol.data_dir, TRAINING_SET)
    _, _, metadata, index = open_set(files)
    if pairs_of(metadata) != manifest.hashes[PAIRS]:
        raise UserError(
            f"{files.metadata} has other image ids than the split in {protocol.split_dir} was made from: run the split "
            "step again, or put that file back"
        )
    return metadata, index


def _inputs(manifest: Manifest, protocol: Protocol) -> dict[str, str]:
    """Return the SHA-256 of each file of the set that was split; captions and pictures may have changed since."""
    metadata = EmbeddingFiles.of(protocol.data_dir, TRAINING_SET).metadata
    return manifest.hashes | {metadata.name: file_hash(metadata)}


def _captions(split: SplitIndex, metadata: Metadata) -> list[str] | None:
    """Return the text of each caption of a split, or None where the metadata has none."""
    return metadata.captions and [metadata.captions[row] for row in split.text_rows]


@dataclass(frozen=True)
class ExtraSet:
    """The evaluation of `val2017_*`, and the SHA-256 of its files by name."""

    evaluation: Evaluation
    hashes: dict[str, str]


def _extra_set(
    model: DualEncoder,
    index: PairIndex,
    opened: SplitFiles,
    protocol: Protocol,
    device: torch.device,
    correction: ChosenCorrection,
) -> ExtraSet | None:
    """Evaluate on `val2017_*` where the folder has it; index: the pairs of the set that was split."""
    train = opened.pairs["train"]
    checked = check_extra_set(protocol.data_dir, train.image_file, train.texts)
    if checked is None:
        return None
    rows = captions_by_rule(every_row(checked.index), protocol.captions_rule)
    pairs = PairFiles(checked.images, checked.texts, rows)
    evaluation = evaluate(model, pairs, EXTRA_SET, protocol.captions_rule, device, correction)
    known = opened.manifest.extra.get(EXTRA_SET, {})
    # A set that was put there, or changed, after the split was made has not been looked at yet.
    looked_at = known.get("hashes") == checked.hashes
    warnings = known["warnings"] if looked_at else extra_doubts(checked, index, train, opened.pairs["val"])
    for text in warnings:
        logger.warning("warning: %s: %s", EXTRA_SET, text)
    return ExtraSet(replace(evaluation, metrics=evaluation.metrics | {"warnings": warnings}), checked.hashes)


def _log(name: str, metrics: Mapping[str, Any]) -> None:
    second = {title: metrics[key] for key, title in SECOND_RANKINGS.items() if metrics[key]}
    for label, found in {name: metrics, **{f"{name}, {title}": found for title, found in second.items()}}.items():
        full = found["full"]
        recalls = "  ".join(
            f"{direction} " + "/".join(f"{full[direction][metric]:.1f}" for metric in RECALLS)
            for direction in DIRECTIONS
        )
        logger.info("%s: RSUM %.1f  %s", label, full["RSUM"], recalls)

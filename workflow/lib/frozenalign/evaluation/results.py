"""Evaluate a model and write the folder evaluation_results of its run."""

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
from frozenalign.data.splits import every_row
from frozenalign.evaluation.diagnostics import diagnostics
from frozenalign.evaluation.examples import retrieval_examples, worst_queries
from frozenalign.evaluation.hubness import HubnessCorrection, choose_correction, training_sample
from frozenalign.evaluation.metrics import DIRECTIONS, RECALLS, SECOND_RANKINGS
from frozenalign.evaluation.projections import project_files
from frozenalign.evaluation.protocol import Evaluation, captions_by_rule, evaluate, metrics_document, rank_arrays
from frozenalign.evaluation.samples import drawn_samples
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.errors import UserError
from frozenalign.system.files import file_hash, write_arrays, write_json
from frozenalign.system.memory import refuse_beyond_memory

logger = logging.getLogger(__name__)
# Projections that memory holds at the same time: plain ones, corrected ones for each direction, products of samples.
COPIES_OF_TESTED, COPIES_OF_OTHERS = 6, 2
# Scores against the training captions of the hubness correction, tiles of scores, the sample of the uniformity.
FURTHER_BYTES = 192 << 20


@dataclass(frozen=True)
class Protocol:
    """What a model is evaluated on: folders of the embeddings and of their split, name of the split, captions rule."""

    data_dir: Path
    split_dir: Path
    split: str
    captions_rule: str

    def open(self) -> SplitFiles:
        """Open the splits that an evaluation reads: train, val and the evaluated one."""
        return open_split(self.data_dir, self.split_dir, list(dict.fromkeys(["train", "val", self.split])))


@dataclass(frozen=True)
class Member:
    """A trained model, or a member of an ensemble: its file, and the facts in it."""

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

    facts: of the evaluated model: its names, and how it was chosen. members: the trained models; one that may have seen
    the test rows is a UserError.
    """
    opened, rule = protocol.open(), protocol.captions_rule
    manifest, train = opened.manifest, opened.pairs["train"]
    warnings = _warnings(members, manifest, protocol)
    embeddings = EmbeddingFiles.of(protocol.data_dir, TRAINING_SET)
    metadata, index = _metadata_and_index(embeddings, protocol, manifest)
    split = captions_by_rule(opened.pairs[protocol.split].split, rule)
    files = replace(opened.pairs[protocol.split], split=split)
    sample = replace(train, split=training_sample(train.split))
    if device.type == "cpu":
        _refuse_too_many(model, files, sample, opened.pairs["val"])
    correction = choose_correction(*(project_files(model, pairs, device) for pairs in (sample, opened.pairs["val"])))
    main_set = evaluate(model, files, protocol.split, rule, device, correction)
    extra, extra_hashes = _extra_set(model, index, opened, protocol, device, correction)
    captions = metadata.captions and [metadata.captions[row] for row in split.text_rows]
    document = metrics_document(
        facts,
        main_set,
        diagnostics(main_set, files, captions),
        extra,
        rows=manifest.rows[protocol.split],
        # Captions and pictures may have changed since the split.
        inputs=manifest.hashes | {embeddings.metadata.name: file_hash(embeddings.metadata)} | extra_hashes,
        models=[file_hash(member.path) for member in members],
        warnings=warnings,
    )
    write_json(output / "metrics.json", document)
    write_arrays(output / "ranks.npz", **rank_arrays(main_set))
    write_json(output / "examples.json", retrieval_examples(main_set, split, metadata))
    write_json(output / "worst_queries.json", worst_queries(main_set, split, metadata))
    write_arrays(output / "samples.npz", **drawn_samples(main_set.projections))
    for name, evaluation in {protocol.split: main_set, **extra}.items():
        _log(name, evaluation.metrics)
    logger.info("written to %s", output)
    logger.info("found: %s RSUM %.1f", protocol.split, main_set.metrics["full"]["RSUM"])


@torch.no_grad()
def _refuse_too_many(model: DualEncoder, tested: PairFiles, *others: PairFiles) -> None:
    """Refuse more pairs than the CPU's memory holds projections of.

    Of the tested pairs there are corrected projections and samples as well, and tokens where the model re-ranks.
    """
    text = tested.texts.read(0, 1)
    width, tokens = len(model.encode_texts(text)[0]), 0
    if model.scorer is not None:
        tokens = model.text_tower.with_tokens(model.text_statistics(text))[1].numel()
    images, texts = len(tested.split.image_rows), len(tested.split.text_rows)
    values = (images + texts) * (COPIES_OF_TESTED * width + 2 * tokens)
    values += (
        COPIES_OF_OTHERS * width * sum(len(files.split.image_rows) + len(files.split.text_rows) for files in others)
    )
    refuse_beyond_memory(
        values * torch.float32.itemsize + FURTHER_BYTES,
        f"evaluating {images} images and {texts} texts",
        "give the job more, or test on fewer images (`split.fractions.test`, `split.counts.test`)",
    )


def _warnings(members: Sequence[Member], manifest: Manifest, protocol: Protocol) -> list[str]:
    """Return and log the reasons not to trust the numbers: those of the split and those of the training."""
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


def _metadata_and_index(files: EmbeddingFiles, protocol: Protocol, manifest: Manifest) -> tuple[Metadata, PairIndex]:
    """Return metadata and pairs of the set that was split; pairs that have changed since are a UserError."""
    _, _, metadata, index = open_set(files)
    if pairs_of(metadata) != manifest.hashes[PAIRS]:
        raise UserError(
            f"{files.metadata} has other image ids than the split in {protocol.split_dir} was made from: run the split "
            "step again, or put that file back"
        )
    return metadata, index


def _extra_set(
    model: DualEncoder,
    index: PairIndex,
    opened: SplitFiles,
    protocol: Protocol,
    device: torch.device,
    correction: HubnessCorrection,
) -> tuple[dict[str, Evaluation], dict[str, str]]:
    """Return the evaluation of `val2017_*` by its name and the SHA-256 of its files by name; both empty without it.

    index: the pairs of the set that was split.
    """
    train = opened.pairs["train"]
    checked = check_extra_set(protocol.data_dir, train.image_file, train.texts)
    if checked is None:
        return {}, {}
    rows = captions_by_rule(every_row(checked.index), protocol.captions_rule)
    pairs = PairFiles(checked.images, checked.texts, rows)
    evaluation = evaluate(model, pairs, EXTRA_SET, protocol.captions_rule, device, correction)
    known = opened.manifest.extra.get(EXTRA_SET, {})
    # A set that was added or changed after the split has not been checked against it yet.
    checked_before = known.get("hashes") == checked.hashes
    warnings = known["warnings"] if checked_before else extra_doubts(checked, index, train, opened.pairs["val"])
    for text in warnings:
        logger.warning("warning: %s: %s", EXTRA_SET, text)
    evaluation.metrics["warnings"] = warnings
    return {EXTRA_SET: evaluation}, checked.hashes


def _log(name: str, metrics: Mapping[str, Any]) -> None:
    second = {f"{name}, {title}": metrics[key] for key, title in SECOND_RANKINGS.items() if metrics[key]}
    for label, found in {name: metrics, **second}.items():
        full = found["full"]
        recalls = "  ".join(
            f"{direction} " + "/".join(f"{full[direction][metric]:.1f}" for metric in RECALLS)
            for direction in DIRECTIONS
        )
        logger.info("%s: RSUM %.1f  %s", label, full["RSUM"], recalls)

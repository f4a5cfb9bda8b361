"""Evaluate a model and write the folder evaluation_results of its run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from frozenalign.data.embeddings import CheckedSet, EmbeddingFiles, check_extra_set
from frozenalign.data.inputs import EXTRA_SET, TRAINING_SET, Inputs, Manifest
from frozenalign.data.manifests import KNOWN_HASHES, SplitFiles, open_sets, open_split
from frozenalign.data.pair_index import PairIndex
from frozenalign.data.pairs import PairFiles
from frozenalign.data.split_findings import extra_doubts
from frozenalign.data.splits import every_row
from frozenalign.evaluation.diagnostics import diagnostics
from frozenalign.evaluation.encoder_similarity import KNOWN_ALIGNMENTS, EncoderSimilarity, KnownAlignments
from frozenalign.evaluation.examples import retrieval_examples, worst_queries
from frozenalign.evaluation.hubness import HubnessCorrection, choose_correction, training_sample
from frozenalign.evaluation.image_batches import ImageBatch
from frozenalign.evaluation.members import Member
from frozenalign.evaluation.metrics import DIRECTIONS, RECALLS, SECOND_RANKINGS
from frozenalign.evaluation.parts import checked, summed_counts, write_counts
from frozenalign.evaluation.projections import project_files, see_nothing
from frozenalign.evaluation.protocol import (
    Evaluation,
    Retrieval,
    captions_by_rule,
    evaluate,
    metrics_document,
    rank_arrays,
)
from frozenalign.evaluation.samples import drawn_samples
from frozenalign.evaluation.shares import Share
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.errors import UserError
from frozenalign.system.files import file_hash, write_arrays, write_json
from frozenalign.system.fingerprints import content_hash, fingerprint
from frozenalign.system.memory import refuse_beyond_memory

logger = logging.getLogger(__name__)
# Projections that memory holds at the same time: plain ones, those without a penalty for hubs, distances of pairs,
# products of samples.
COPIES_OF_TESTED, COPIES_OF_OTHERS = 5, 2
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
        return open_split(self.data_dir, self.split_dir, self._splits())

    def content(self) -> str:
        """Return one SHA-256 of all files that an evaluation reads besides the model, missing ones counted as such."""
        sets = [path for name in (TRAINING_SET, EXTRA_SET) for path in EmbeddingFiles.of(self.data_dir, name)]
        names = ["manifest.json", *(f"{name}.npz" for name in self._splits())]
        return content_hash([*sets, *(self.split_dir / name for name in names)], self.split_dir / KNOWN_HASHES)

    def _splits(self) -> list[str]:
        return list(dict.fromkeys(["train", "val", self.split]))


@dataclass(frozen=True)
class _Sets:
    """The rows that an evaluation reads: the split with its files, and the evaluated sets by name.

    extra: `val2017_*`, checked, if there is any that was not split with the others.
    """

    opened: SplitFiles
    evaluated: dict[str, PairFiles]
    extra: CheckedSet | None

    @classmethod
    def of(cls, protocol: Protocol, opened: SplitFiles) -> "_Sets":
        """Choose the captions of the test split and of the extra set, which is checked."""
        train, main = opened.pairs["train"], opened.pairs[protocol.split]
        sets = {protocol.split: replace(main, split=captions_by_rule(main.split, protocol.captions_rule))}
        split_as_well = EXTRA_SET in opened.manifest.sets
        extra = None if split_as_well else check_extra_set(protocol.data_dir, train.image_file, train.texts)
        if extra is not None:
            rows = captions_by_rule(every_row(extra.index), protocol.captions_rule)
            sets[EXTRA_SET] = PairFiles(extra.images, extra.texts, rows)
        return cls(opened, sets, extra)

    @property
    def extra_hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the files of the extra set by name, none without it."""
        return self.extra.hashes if self.extra else {}

    def correction(self, model: DualEncoder, device: torch.device) -> HubnessCorrection:
        """Return the hubness correction that validation chooses."""
        return choose_correction(*(project_files(model, each, device) for each in self._correcting()))

    def bytes_on_cpu(self, model: DualEncoder, device: torch.device) -> int:
        """Return what the projections take of the CPU's memory at the most: nothing if a device computes."""
        sets = self.evaluated.values() if device.type == "cpu" else ()
        return max((_projection_bytes(model, files, *self._correcting()) for files in sets), default=0)

    def refuse_too_many(self, model: DualEncoder, device: torch.device) -> None:
        """Refuse sets of whose projections the memory of the CPU, if it computes, holds no more than a part."""
        pairs = max((files.split for files in self.evaluated.values()), key=lambda split: len(split.text_rows))
        refuse_beyond_memory(
            self.bytes_on_cpu(model, device),
            f"evaluating {len(pairs.image_rows)} images and {len(pairs.text_rows)} texts",
            "give the job more, or test on fewer images (`split.fractions.test`, `split.counts.test`)",
        )

    def _correcting(self) -> tuple[PairFiles, PairFiles]:
        """Return the pairs that the hubness correction is made of, and those that choose it."""
        train = self.opened.pairs["train"]
        return replace(train, split=training_sample(train.split)), self.opened.pairs["val"]

    def described(self, members: Sequence[Member], protocol: Protocol) -> dict[str, str]:
        """Return what decides the counts of an evaluation, as text by description."""
        manifest, inputs = self.opened.manifest, self.opened.manifest.inputs()
        return {
            "model": " ".join(file_hash(member.path) for member in members),
            "split": f"{protocol.split} {manifest.rows[protocol.split]} {inputs.digest()}",
            "extra set": " ".join(f"{name} {sha256}" for name, sha256 in sorted(self.extra_hashes.items())),
            "captions_rule": protocol.captions_rule,
        }


def write_part(
    output: Path,
    model: DualEncoder,
    members: Sequence[Member],
    protocol: Protocol,
    device: torch.device,
    share: Share,
) -> None:
    """Write the counts of a share of an evaluation, from which `write_evaluation` computes the metrics."""
    sets = _Sets.of(protocol, protocol.open())
    for member in members:
        seen_by(member, sets.opened.manifest, protocol)
    sets.refuse_too_many(model, device)
    correction = sets.correction(model, device)
    counts = {
        name: Retrieval.of(model, files, device, correction).counts(share) for name, files in sets.evaluated.items()
    }
    write_counts(output, sets.described(members, protocol), share, device, counts)
    logger.info("part %d of %d, written to %s", share.part, share.parts, output)


def write_evaluation(
    output: Path,
    model: DualEncoder,
    facts: Mapping[str, Any],
    members: Sequence[Member],
    protocol: Protocol,
    device: torch.device,
    parts: Sequence[Path] = (),
) -> str:
    """Evaluate a model, write metrics.json and the other files of `EVALUATION`, and return what was found.

    facts: of the evaluated model: its names, and how it was chosen. members: the trained models; one that may have seen
    the test rows is a UserError. parts: files of `write_part` with all the counts; without them, they are taken here.
    """
    opened = protocol.open()
    manifest = opened.manifest
    warnings = _warnings(members, manifest, protocol)
    _, _, metadata, index = open_sets(protocol.data_dir, protocol.split_dir, manifest)
    sets = _Sets.of(protocol, opened)
    sets.refuse_too_many(model, device)
    files = sets.evaluated[protocol.split]
    found, cka = _Comparison(model, members, sets, protocol, device, parts).evaluations_and_alignment()
    if sets.extra:
        found[EXTRA_SET].metrics["warnings"] = _extra_warnings(sets.extra, index, opened)
    main_set = found[protocol.split]
    geometry = main_set.projections.without_hub_penalty(model)
    captions = metadata.captions and [metadata.captions[row] for row in files.split.text_rows]
    document = metrics_document(
        facts,
        main_set,
        diagnostics(main_set, geometry, cka, captions),
        {name: evaluation for name, evaluation in found.items() if name != protocol.split},
        rows=manifest.rows[protocol.split],
        inputs=_current_inputs(protocol, manifest, sets),
        models=[file_hash(member.path) for member in members],
        warnings=warnings,
    )
    write_json(output / "metrics.json", document)
    write_arrays(output / "ranks.npz", **rank_arrays(main_set))
    write_json(output / "examples.json", retrieval_examples(main_set, files.split, metadata))
    write_json(output / "worst_queries.json", worst_queries(main_set, files.split, metadata))
    write_arrays(output / "samples.npz", **drawn_samples(main_set.projections, geometry))
    for name, evaluation in found.items():
        _log(name, evaluation.metrics)
    logger.info("written to %s", output)
    return f"{protocol.split} RSUM {main_set.metrics['full']['RSUM']:.1f}"


def _current_inputs(protocol: Protocol, manifest: Manifest, sets: _Sets) -> dict[str, str]:
    """Return the SHA-256 of the files by name; captions and pictures may have changed since the split."""
    documents = [EmbeddingFiles.of(protocol.data_dir, name).metadata for name in manifest.sets]
    return manifest.hashes | {path.name: file_hash(path) for path in documents} | sets.extra_hashes


@dataclass(frozen=True)
class _Comparison:
    """A model, made of members, that is evaluated on sets; parts: files with all counts, none to take them here."""

    model: DualEncoder
    members: Sequence[Member]
    sets: _Sets
    protocol: Protocol
    device: torch.device
    parts: Sequence[Path]

    def evaluations_and_alignment(self) -> tuple[dict[str, Evaluation], float | None]:
        """Return the evaluation of each set, and how alike the encoders are on the main one, where memory allows.

        The first evaluation of a split computes that, the others find it.
        """
        sets, name = self.sets, self.protocol.split
        files = sets.evaluated[name]
        known = KnownAlignments(self.protocol.split_dir / KNOWN_ALIGNMENTS)
        pairs = fingerprint(files.split.digest(), sets.opened.manifest.inputs().digest(), self.device.type)
        if (alignment := known.of(pairs)) is not None:
            return self.evaluations({}), alignment
        similarity = EncoderSimilarity.where_it_fits(files, self.device, sets.bytes_on_cpu(self.model, self.device))
        found = self.evaluations({name: similarity.add} if similarity else {})
        if similarity and (alignment := similarity.alignment) is not None:
            known.add(pairs, alignment)
        return found, alignment

    def evaluations(self, see: Mapping[str, Callable[[ImageBatch], None]]) -> dict[str, Evaluation]:
        """Return the evaluation of each set; see: by set, what is given its rows while they are projected."""
        summed = {}
        if self.parts:
            summed = summed_counts(self.parts, self.sets.described(self.members, self.protocol), self.device)
        correction = self.sets.correction(self.model, self.device)

        def evaluation(name: str) -> Evaluation:
            files, given_rows = self.sets.evaluated[name], see.get(name, see_nothing)
            retrieval = Retrieval.of(self.model, files, self.device, correction, given_rows)
            counts = checked(summed[name], retrieval, self.parts[0]) if self.parts else retrieval.counts()
            return evaluate(retrieval, counts, name, self.protocol.captions_rule)

        return {name: evaluation(name) for name in self.sets.evaluated}


@torch.no_grad()
def _projection_bytes(model: DualEncoder, tested: PairFiles, *others: PairFiles) -> int:
    """Return the bytes of the projections of tested pairs and of those that the hubness correction is made of.

    Of the tested pairs there are distances and samples as well, and tokens where the model re-ranks.
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
    return values * torch.float32.itemsize + FURTHER_BYTES


def _warnings(members: Sequence[Member], manifest: Manifest, protocol: Protocol) -> list[str]:
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


def _extra_warnings(extra: CheckedSet, index: PairIndex, opened: SplitFiles) -> list[str]:
    """Return and log the doubts about the extra set; index: the pairs of the set that was split."""
    known = opened.manifest.extra.get(EXTRA_SET, {})
    # A set that was added or changed after the split has not been checked against it yet.
    checked_before = known.get("hashes") == extra.hashes
    train, val = opened.pairs["train"], opened.pairs["val"]
    warnings = known["warnings"] if checked_before else extra_doubts(extra, index, train, val)
    for text in warnings:
        logger.warning("warning: %s: %s", EXTRA_SET, text)
    return warnings


def _log(name: str, metrics: Mapping[str, Any]) -> None:
    second = {f"{name}, {title}": metrics[key] for key, title in SECOND_RANKINGS.items() if metrics[key]}
    for label, found in {name: metrics, **second}.items():
        full = found["full"]
        recalls = "  ".join(
            f"{direction} " + "/".join(f"{full[direction][metric]:.1f}" for metric in RECALLS)
            for direction in DIRECTIONS
        )
        logger.info("%s: RSUM %.1f  %s", label, full["RSUM"], recalls)

"""Evaluate a model and write the folder evaluation_results of its run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from frozenalign.data.embeddings import EmbeddingFiles
from frozenalign.data.inputs import EXTRA_SET, Manifest
from frozenalign.data.manifests import open_sets
from frozenalign.evaluation.diagnostics import diagnostics
from frozenalign.evaluation.doubts import log_doubts, log_doubts_about_extra, seen_by
from frozenalign.evaluation.encoder_similarity import KNOWN_CKA, EncoderSimilarity, KnownCKA
from frozenalign.evaluation.evaluated_sets import EvaluatedSets
from frozenalign.evaluation.examples import retrieval_examples, worst_queries
from frozenalign.evaluation.image_batches import ImageBatch
from frozenalign.evaluation.members import Member
from frozenalign.evaluation.metrics import DIRECTIONS, RECALLS, SECOND_RANKINGS
from frozenalign.evaluation.parts import checked, summed_counts, write_counts
from frozenalign.evaluation.projections import see_nothing
from frozenalign.evaluation.protocol import Protocol
from frozenalign.evaluation.retrieval import Evaluation, Retrieval, evaluate, metrics_document, rank_arrays
from frozenalign.evaluation.samples import drawn_samples
from frozenalign.evaluation.shares import Share
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.files import file_hash, write_arrays, write_json
from frozenalign.system.fingerprints import fingerprint

logger = logging.getLogger(__name__)


def write_part(
    output: Path,
    model: DualEncoder,
    members: Sequence[Member],
    protocol: Protocol,
    device: torch.device,
    share: Share,
) -> None:
    """Write the counts of a share of an evaluation, from which `write_evaluation` computes the metrics."""
    sets = EvaluatedSets.of(protocol, protocol.open())
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
    warnings = log_doubts(members, manifest, protocol)
    _, _, metadata, index = open_sets(protocol.data_dir, protocol.split_dir, manifest)
    sets = EvaluatedSets.of(protocol, opened)
    sets.refuse_too_many(model, device)
    files = sets.evaluated[protocol.split]
    found, cka = _Comparison(model, members, sets, protocol, device, parts).evaluations_and_cka()
    if sets.extra:
        found[EXTRA_SET].metrics["warnings"] = log_doubts_about_extra(sets.extra, index, opened)
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


def _current_inputs(protocol: Protocol, manifest: Manifest, sets: EvaluatedSets) -> dict[str, str]:
    """Return the SHA-256 of the files by name; captions and pictures may have changed since the split."""
    documents = [EmbeddingFiles.of(protocol.data_dir, name).metadata for name in manifest.sets]
    return manifest.hashes | {path.name: file_hash(path) for path in documents} | sets.extra_hashes


@dataclass(frozen=True)
class _Comparison:
    """A model, made of members, that is evaluated on sets; parts: files with all counts, none to take them here."""

    model: DualEncoder
    members: Sequence[Member]
    sets: EvaluatedSets
    protocol: Protocol
    device: torch.device
    parts: Sequence[Path]

    def evaluations_and_cka(self) -> tuple[dict[str, Evaluation], float | None]:
        """Return the evaluation of each set, and how alike the encoders are on the main one, where memory allows.

        The first evaluation of a split computes that, the others find it.
        """
        sets, name = self.sets, self.protocol.split
        files = sets.evaluated[name]
        known = KnownCKA(self.protocol.split_dir / KNOWN_CKA)
        pairs = fingerprint(files.split.digest(), sets.opened.manifest.inputs().digest(), self.device.type)
        if (cka := known.of(pairs)) is not None:
            return self.evaluations({}), cka
        similarity = EncoderSimilarity.where_it_fits(files, self.device, sets.bytes_on_cpu(self.model, self.device))
        found = self.evaluations({name: similarity.add} if similarity else {})
        if similarity and (cka := similarity.cka) is not None:
            known.add(pairs, cka)
        return found, cka

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


def _log(name: str, metrics: Mapping[str, Any]) -> None:
    second = {f"{name}, {title}": metrics[key] for key, title in SECOND_RANKINGS.items() if metrics[key]}
    for label, found in {name: metrics, **second}.items():
        full = found["full"]
        recalls = "  ".join(
            f"{direction} " + "/".join(f"{full[direction][metric]:.1f}" for metric in RECALLS)
            for direction in DIRECTIONS
        )
        logger.info("%s: RSUM %.1f  %s", label, full["RSUM"], recalls)

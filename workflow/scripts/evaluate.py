"""Evaluate a trained head or a baseline: exact ranks, metrics, retrieval examples, and samples for the pictures."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.configuration.foreign_results import EVALUATION, refuse_foreign_results
from frozenalign.configuration.result_files import checked_facts
from frozenalign.evaluation.members import Member
from frozenalign.evaluation.protocol import Protocol
from frozenalign.evaluation.results import write_evaluation
from frozenalign.models.model_file import load_heads
from frozenalign.system.devices import choose_device
from frozenalign.system.errors import run
from frozenalign.system.files import file_hash
from frozenalign.system.fingerprints import code_hash, fingerprint
from frozenalign.system.finished import Finished
from frozenalign.system.locks import only_writer
from frozenalign.system.provenance import versions

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write metrics.json, ranks.npz, examples.json, worst_queries.json and samples.npz."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = choose_device(arguments.device)
    model, facts = load_heads(arguments.model)
    facts = checked_facts(facts, arguments.model)
    protocol = Protocol(arguments.data_dir, arguments.split_dir, arguments.split, arguments.captions_rule)
    with only_writer(arguments.output_dir):
        refuse_foreign_results(arguments.output_dir, EVALUATION)
        decisive = (file_hash(arguments.model), protocol.split, protocol.captions_rule, protocol.content(), device.type)
        made_by = fingerprint(decisive, code_hash(Path(__file__)), versions())
        finished = Finished(arguments.output_dir, EVALUATION, made_by)
        if (found := finished.again()) is None:
            members = [Member(arguments.model, facts)]
            found = write_evaluation(arguments.output_dir, model, facts, members, protocol, device, arguments.parts)
            finished.keep(found)
    logger.info("found: %s", found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.evaluate", description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="best_model.pt of a head or a baseline")
    add_options(parser, "--data-dir", "--split-dir", "--split", "--device", "--parts", "--captions-rule")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for metrics and samples")
    return parser


if __name__ == "__main__":
    run(main)

"""Evaluate a trained head, a baseline or an ensemble on the evaluation sets of a run."""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frozenalign.configuration.arguments import add_one_of, add_options
from frozenalign.configuration.foreign_results import SETS_FILE, refuse_foreign_results
from frozenalign.evaluation.benchmarks.results import files_of_sets, refuse_wrong_sets, write_sets
from frozenalign.evaluation.evaluated_model import evaluated_model
from frozenalign.evaluation.protocol import Protocol
from frozenalign.system.devices import choose_device
from frozenalign.system.errors import UserError, quoted, run
from frozenalign.system.fingerprints import code_hash, content_hash, fingerprint
from frozenalign.system.finished import Finished
from frozenalign.system.locks import only_writer
from frozenalign.system.provenance import versions

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write sets.json."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sets = refuse_wrong_sets(_parsed(arguments.sets))
    device = choose_device(arguments.device)
    model, members = evaluated_model(arguments.model, arguments.models)
    protocol = Protocol(arguments.data_dir, arguments.split_dir, arguments.split, arguments.captions_rule)
    with only_writer(arguments.output_dir):
        refuse_foreign_results(arguments.output_dir, [SETS_FILE])
        files = [*(member.path for member in members), *files_of_sets(sets)]
        decisive = (json.dumps(sets), content_hash(files), protocol.content())
        how = (protocol.split, protocol.captions_rule, device.type, code_hash(Path(__file__)), versions())
        finished = Finished(arguments.output_dir, (SETS_FILE,), fingerprint(decisive, how))
        if (found := finished.again()) is None:
            found = write_sets(arguments.output_dir, model, members, protocol, sets, device)
            finished.keep(found)
    logger.info("found: %s", found)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--sets {quoted(text)} is no JSON: write an object of sets by name") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.evaluate_sets", description=__doc__)
    add_one_of(parser, "--model", "--models")
    parser.add_argument(
        "--sets", required=True, help='evaluation sets by name, as JSON: {"NAME": {"kind": …, "dir": …}}'
    )
    add_options(parser, "--data-dir", "--split-dir", "--split", "--device", "--captions-rule")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for sets.json")
    return parser


if __name__ == "__main__":
    run(main)

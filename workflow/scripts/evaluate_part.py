"""Count one share of an evaluation's ranks, for several jobs to divide a large one; evaluate adds the counts up."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.arguments import add_one_of, add_options
from frozenalign.configuration.foreign_results import COUNTS_FILE, refuse_foreign_results
from frozenalign.evaluation.evaluated_model import evaluated_model
from frozenalign.evaluation.protocol import Protocol
from frozenalign.evaluation.results import write_part
from frozenalign.evaluation.shares import Share
from frozenalign.system.devices import choose_device
from frozenalign.system.errors import UserError, run
from frozenalign.system.locks import only_writer


def main(argv: Sequence[str] | None = None) -> None:
    """Write counts.npz."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not 1 <= arguments.part <= arguments.of:
        raise UserError(f"--part {arguments.part}: give a number from 1 to {arguments.of}, the value of --of")
    device = choose_device(arguments.device)
    model, members = evaluated_model(arguments.model, arguments.models)
    protocol = Protocol(arguments.data_dir, arguments.split_dir, arguments.split, arguments.captions_rule)
    with only_writer(arguments.output_dir):
        refuse_foreign_results(arguments.output_dir, [COUNTS_FILE])
        write_part(arguments.output_dir, model, members, protocol, device, Share(arguments.part, arguments.of))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.evaluate_part", description=__doc__)
    add_one_of(parser, "--model", "--models")
    add_options(parser, "--data-dir", "--split-dir", "--split", "--device", "--captions-rule")
    parser.add_argument("--part", required=True, type=int, help="number of this part, from 1")
    parser.add_argument("--of", required=True, type=int, help="number of all parts")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for counts.npz, of this part only")
    return parser


if __name__ == "__main__":
    run(main)

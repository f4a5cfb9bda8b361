"""Compare the encodings of one set with all their heads: one self-contained page, and the board as a table."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.reporting.encoded_sets import read_set, refuse_other_pairs
from frozenalign.reporting.encodings import encodings_board
from frozenalign.reporting.encodings_page import render_encodings
from frozenalign.reporting.leaderboard import read_run
from frozenalign.system.errors import run
from frozenalign.system.files import write_text
from frozenalign.system.locks import only_writer

PAGE, TABLE = "index.html", "encodings.csv"
# The first columns of the table, by which it is known again.
FIRST = ["experiment", "kind", "images", "texts", "set"]


def main(argv: Sequence[str] | None = None) -> None:
    """Write index.html and encodings.csv."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sets = [read_set(folder) for folder in arguments.sets]
    refuse_other_pairs(sets)
    runs = [read_run(folder) for folder in arguments.runs]
    board = encodings_board(sets, runs)
    ordered = board.rows[[*FIRST, *(name for name in board.rows.columns if name not in FIRST)]]
    with only_writer(arguments.output_dir):
        refuse_foreign_results(arguments.output_dir, (PAGE, TABLE))
        write_text(arguments.output_dir / PAGE, render_encodings(arguments.dataset_name, sets, runs, board))
        write_text(arguments.output_dir / TABLE, ordered.to_csv(index=False, float_format="%.4f"))
    print(f"found: {arguments.output_dir / PAGE}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflow.scripts.encodings", description=__doc__, fromfile_prefix_chars="@"
    )
    parser.add_argument("--dataset-name", required=True, help="name of the set that is encoded, for the title")
    add_options(parser, "--sets")
    parser.add_argument(
        "--runs",
        nargs="+",
        required=True,
        type=Path,
        help="their run folders, results/DATASET/EXPERIMENT/seedK, or @FILE, one a line",
    )
    parser.add_argument("--output-dir", required=True, type=Path, help=f"folder for {PAGE} and {TABLE}")
    return parser


if __name__ == "__main__":
    run(main)

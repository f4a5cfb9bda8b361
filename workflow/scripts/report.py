"""Write the report of a run: one self-contained page, the leaderboard as a table, and two figures."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.reporting.figures import figure_files
from frozenalign.reporting.findings import ReportInput, gathered
from frozenalign.reporting.leaderboard import leaderboard, read_run
from frozenalign.reporting.page import render
from frozenalign.system.errors import run
from frozenalign.system.files import write_bytes, write_text
from frozenalign.system.locks import only_writer

FILES = ("index.html", "leaderboard.csv", "leaderboard.svg", "costs.svg")


def main(argv: Sequence[str] | None = None) -> None:
    """Write index.html, leaderboard.csv, leaderboard.svg and costs.svg."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    runs = [read_run(folder) for folder in arguments.runs]
    pictures = arguments.pictures or arguments.data_dir
    source = ReportInput(
        arguments.dataset_name,
        arguments.data_dir,
        pictures,
        arguments.manifest,
        arguments.studies,
        arguments.evaluation_sets,
        arguments.encodings,
    )
    table = leaderboard(runs).to_csv(index=False, float_format="%.4f")
    with only_writer(arguments.output_dir):
        refuse_foreign_results(arguments.output_dir, FILES)
        found = gathered(source, runs)
        page, figures = render(found), figure_files(found)
        write_text(arguments.output_dir / "index.html", page)
        write_text(arguments.output_dir / "leaderboard.csv", table)
        for name, content in figures.items():
            write_bytes(arguments.output_dir / name, content)
    print(f"found: {arguments.output_dir / 'index.html'}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflow.scripts.report", description=__doc__, fromfile_prefix_chars="@"
    )
    parser.add_argument("--dataset-name", required=True, help="name of the data set, for the title")
    parser.add_argument("--data-dir", required=True, type=Path, help="folder with train2017_metadata.json")
    parser.add_argument(
        "--pictures",
        type=Path,
        help="folder that the paths of `image_files` start from, where it is not the data folder",
    )
    parser.add_argument("--manifest", required=True, type=Path, help="manifest.json of the split")
    parser.add_argument(
        "--runs",
        nargs="+",
        required=True,
        type=Path,
        help="run folders, results/DATASET/EXPERIMENT/seedK, or @FILE, one a line",
    )
    parser.add_argument(
        "--studies",
        nargs="*",
        default=[],
        type=Path,
        help="study folders, results/DATASET/tuning/STUDY, or @FILE, one a line",
    )
    parser.add_argument("--evaluation-sets", nargs="*", default=[], help="names of the evaluation sets that are shown")
    parser.add_argument(
        "--encodings", help="path from the page to the one that compares several encodings of the set, to link there"
    )
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the page, the table and the figures")
    return parser


if __name__ == "__main__":
    run(main)

"""Put the similarity of the encoders of several encodings of one set together, as a table and a picture."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.plots.encodings import similarity_figure
from frozenalign.reporting.encoded_sets import in_order_of, read_set, refuse_other_pairs, similarity_table
from frozenalign.system.errors import run
from frozenalign.system.files import save_figure, write_text
from frozenalign.system.locks import only_writer

TABLE, PICTURE = "encoder_similarity.csv", "encoder_similarity.png"


def main(argv: Sequence[str] | None = None) -> None:
    """Write encoder_similarity.csv and encoder_similarity.png, and print the table, the most similar pair first."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sets = [read_set(folder) for folder in arguments.sets]
    refuse_other_pairs(sets)
    table = similarity_table(sets)
    with only_writer(arguments.output_dir):
        refuse_foreign_results(arguments.output_dir, [TABLE])
        write_text(arguments.output_dir / TABLE, table.to_csv(index=False, float_format="%.4f"))
        save_figure(arguments.output_dir / PICTURE, similarity_figure(in_order_of(sets, table)), {})
    print(table.to_string(index=False, float_format="%.3f"))
    print(f"found: {arguments.output_dir / TABLE}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflow.scripts.encoder_similarity", description=__doc__, fromfile_prefix_chars="@"
    )
    add_options(parser, "--sets")
    parser.add_argument("--output-dir", required=True, type=Path, help=f"folder for {TABLE} and {PICTURE}")
    return parser


if __name__ == "__main__":
    run(main)

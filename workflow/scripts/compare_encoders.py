"""Compare the two encoders of a data set on its training pairs, before any head is trained."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.data.manifests import open_split
from frozenalign.evaluation.representations import representation_similarity
from frozenalign.system.errors import run
from frozenalign.system.files import write_json
from frozenalign.system.locks import only_writer

logger = logging.getLogger(__name__)
RESULT = "encoder_similarity.json"
FORMAT = 1


def main(argv: Sequence[str] | None = None) -> None:
    """Write encoder_similarity.json."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    opened = open_split(arguments.data_dir, arguments.split_dir, ["train"])
    found = representation_similarity(opened.pairs["train"])
    made_from = {"hashes": opened.manifest.hashes, "rows": opened.manifest.rows["train"]}
    with only_writer(arguments.output_dir):
        refuse_foreign_results(arguments.output_dir, [RESULT])
        write_json(arguments.output_dir / RESULT, {"format": FORMAT, **asdict(found), **made_from})
    cka = "none" if found.cka is None else f"{found.cka:.3f}"
    logger.info(
        "found: on %d images, a CKA of %s; %.3f of %d neighbours in common, by chance %.3f",
        *(found.images, cka, found.mutual_neighbours, found.neighbours, found.chance),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.compare_encoders", description=__doc__)
    add_options(parser, "--data-dir", "--split-dir")
    parser.add_argument("--output-dir", required=True, type=Path, help=f"folder for {RESULT}")
    return parser


if __name__ == "__main__":
    run(main)

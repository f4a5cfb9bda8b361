"""Write the images and captions of a split as a head projects them, in the folder layout of clip-retrieval."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.serving.aligned_model import open_model
from frozenalign.serving.galleries import SPLIT_CHOICES, SplitGallery
from frozenalign.serving.projected_rows import refuse_foreign_folder, write_projected
from frozenalign.system.devices import choose_device
from frozenalign.system.errors import run
from frozenalign.system.locks import only_writer

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write img_emb, text_emb, metadata, gallery.json and, for an evaluated head, hub_penalties.npz."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model = open_model(arguments.model, None, choose_device(arguments.device))
    gallery = SplitGallery.open(arguments.data_dir, arguments.split_dir, arguments.split)
    with only_writer(arguments.output_dir):
        refuse_foreign_folder(arguments.output_dir)
        found = write_projected(arguments.output_dir, gallery, model)
    logger.info("found: %s", found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.gallery", description=__doc__)
    parser.add_argument(
        "--model", required=True, type=Path, help="best_model.pt of a head, or a folder that export wrote"
    )
    add_options(parser, "--data-dir", "--split-dir")
    parser.add_argument("--split", default="test", choices=SPLIT_CHOICES, help="images to write (test)")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the rows, with nothing else in it")
    add_options(parser, "--device")
    return parser


if __name__ == "__main__":
    run(main)

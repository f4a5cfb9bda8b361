"""Encode the pictures of a set, or one job's share of them, with a frozen encoder; a killed job goes on."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.data.captions.registry import read_captions
from frozenalign.encoders.job import Job, encode_share
from frozenalign.encoders.pictures import DROP, STOP, Pictures
from frozenalign.encoders.settings import load_encoder
from frozenalign.system.devices import choose_device
from frozenalign.system.errors import run

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the shards of the job, and JOB-of-JOBS.json."""
    given = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    job = Job(given.output_dir, *given.job)
    captioned = read_captions(given.captions, given.columns, given.pictures)
    pictures = Pictures.of(captioned, given.pictures, given.on_error)
    settings = load_encoder(given.encoder, given.changes, given.encoding)
    found = encode_share(pictures, settings, "image", choose_device(given.device), job)
    logger.info("found: %s", found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.encode_images", description=__doc__)
    add_options(parser, "--encoder", "--encoding", "--changes", "--captions", "--columns")
    parser.add_argument("--pictures", required=True, type=Path, help="folder of the pictures, or of archives of them")
    parser.add_argument(
        "--on-error",
        default=STOP,
        choices=(STOP, DROP),
        help="what to do with a picture that cannot be read: stop, or drop its pairs (stop)",
    )
    add_options(parser, "--job", "--device")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the shards of all jobs")
    return parser


if __name__ == "__main__":
    run(main)

"""Encode the captions of a set, or one job's share of them, with a frozen encoder; a killed job goes on."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.data.captions.registry import read_captions
from frozenalign.encoders.job import Job, encode_share
from frozenalign.encoders.settings import load_encoder
from frozenalign.encoders.texts import Texts
from frozenalign.system.devices import choose_device
from frozenalign.system.errors import run

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the shards of the job, and JOB-of-JOBS.json."""
    given = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    job = Job(given.output_dir, *given.job)
    captioned = read_captions(given.captions, given.columns, given.pictures)
    settings = load_encoder(given.encoder, given.changes, given.encoding)
    found = encode_share(Texts.of(captioned), settings, "text", choose_device(given.device), job)
    logger.info("found: %s", found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.encode_texts", description=__doc__)
    add_options(parser, "--encoder", "--encoding", "--changes", "--captions", "--columns")
    parser.add_argument("--pictures", type=Path, help="folder of the pictures, to which some captions belong")
    add_options(parser, "--job", "--device")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the shards of all jobs")
    return parser


if __name__ == "__main__":
    run(main)

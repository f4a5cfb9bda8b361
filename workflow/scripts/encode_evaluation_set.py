"""Encode the pictures and texts of an evaluation set with the encoders of the run; a killed job goes on."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.configuration.registrations import benchmark_files
from frozenalign.data.benchmarks.registry import BENCHMARK_FILES
from frozenalign.encoders.benchmark_sets import encode_items, write_benchmark
from frozenalign.system.devices import choose_device
from frozenalign.system.errors import run
from frozenalign.system.locks import only_writer


def main(argv: Sequence[str] | None = None) -> None:
    """Write train2017_*_embeddings.pt, rows.json or train2017_metadata.json, and encoding.json."""
    given = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    items = BENCHMARK_FILES[given.kind](given.file, given.pictures)
    with only_writer(given.output_dir):
        encoders = (given.image_encoder, given.text_encoder)
        images, texts = encode_items(items, given.pictures, encoders, choose_device(given.device), given.output_dir)
        write_benchmark(given.output_dir, items, images, texts)
    cut = f", {texts.truncated:,} cut" if texts.truncated else ""
    print(f"found: {images.rows:,} pictures, {texts.rows:,} texts{cut}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.encode_evaluation_set", description=__doc__)
    parser.add_argument("--kind", required=True, choices=list(benchmark_files()), help="kind of the evaluation set")
    parser.add_argument("--file", required=True, type=Path, help="captions, hard negatives, or classes and templates")
    parser.add_argument("--pictures", required=True, type=Path, help="folder of the pictures")
    parser.add_argument("--image-encoder", required=True, type=Path, help="file of the encoder of the pictures")
    parser.add_argument("--text-encoder", required=True, type=Path, help="file of the encoder of the texts")
    add_options(parser, "--device")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the embeddings of the set")
    return parser


if __name__ == "__main__":
    run(main)

"""Put the encoded pictures and captions of a set together: embeddings, metadata, and a record of what encoded them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.data.captions.registry import read_captions
from frozenalign.encoders.merging import gathered
from frozenalign.encoders.writing import write_set
from frozenalign.system.errors import run
from frozenalign.system.locks import only_writer


def main(argv: Sequence[str] | None = None) -> None:
    """Write train2017_{image_embeddings.pt,text_embeddings.pt,metadata.json} and encoding.json."""
    given = _parser().parse_args(argv)
    captioned = read_captions(given.captions, given.columns, given.pictures)
    images = gathered(given.images, len(captioned.image_files))
    texts = gathered(given.texts, len(captioned.captions))
    with only_writer(given.output_dir):
        record = write_set(given.output_dir, given.pictures, captioned, images, texts)
    left_out = f", {record['dropped_pairs']:,} captions left out" if record["dropped_pairs"] else ""
    cut = f", {texts.truncated:,} cut" if texts.truncated else ""
    print(f"found: {images.rows:,} pictures, {record['pairs']:,} captions{cut}{left_out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.merge_encodings", description=__doc__)
    parser.add_argument("--images", required=True, nargs="+", type=Path, help="files of all jobs of encode_images")
    parser.add_argument("--texts", required=True, nargs="+", type=Path, help="files of all jobs of encode_texts")
    add_options(parser, "--captions", "--columns")
    parser.add_argument("--pictures", required=True, type=Path, help="folder of the pictures that were encoded")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the embeddings and metadata")
    return parser


if __name__ == "__main__":
    run(main)

"""Search a gallery with a trained head: print the nearest images or captions of a query as JSON, or write a page."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.serving.aligned_model import open_model
from frozenalign.serving.galleries import CAPTIONS, IMAGES, KINDS, SPLIT_CHOICES
from frozenalign.serving.opening import GalleryChoice, open_gallery, open_index
from frozenalign.serving.queries import picture_query, text_query
from frozenalign.serving.query_encoder import QueryEncoder
from frozenalign.serving.result_page import result_page
from frozenalign.serving.searcher import Query, Searcher
from frozenalign.system.devices import choose_device
from frozenalign.system.errors import UserError, run
from frozenalign.system.files import write_text


def main(argv: Sequence[str] | None = None) -> None:
    """Print JSON on standard output, or write the page of --html."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("faiss").setLevel(logging.WARNING)
    if arguments.count < 1:
        raise UserError(f"--count is {arguments.count}: take 1 or a larger whole number")
    choice = GalleryChoice(
        arguments.gallery, arguments.data_dir, arguments.split_dir, arguments.split, arguments.pictures
    ).completed(arguments.model)
    model = open_model(arguments.model, choice.data_dir, choose_device(arguments.device))
    searcher = Searcher(model, open_gallery(choice, model), arguments.hubness)
    query = _query(arguments, searcher)
    kind = arguments.find or (IMAGES if query.modality == "text" else CAPTIONS)
    if arguments.index:
        searcher = replace(searcher, index=open_index(arguments.index, searcher.gallery, kind))
    answer = searcher.answer(kind, query, arguments.count)
    if arguments.html:
        write_text(arguments.html, result_page(answer, searcher.gallery.items))
        print(f"found: {arguments.html}")
    else:
        json.dump(answer, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
        print()


def _query(arguments: argparse.Namespace, searcher: Searcher) -> Query:
    if arguments.row is not None:
        return searcher.query_of_row(IMAGES, arguments.row)
    if arguments.caption_row is not None:
        return searcher.query_of_row(CAPTIONS, arguments.caption_row)
    modality = "image" if arguments.image else "text"
    record, device = searcher.model.facts["encoders"], searcher.model.device
    encoder = QueryEncoder.of_record(record, modality, device, str(arguments.model))
    if arguments.image:
        return picture_query(searcher, encoder, arguments.image)
    return text_query(searcher, encoder, arguments.text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.search", description=__doc__)
    parser.add_argument(
        "--model", required=True, type=Path, help="best_model.pt of a head, or a folder that export wrote"
    )
    parser.add_argument("--gallery", type=Path, help="folder that `gallery` wrote, or another one of projected rows")
    parser.add_argument("--data-dir", type=Path, help="folder with the train2017_* files (the one the split names)")
    parser.add_argument("--split-dir", type=Path, help="folder of the split (that of the run that the model lies in)")
    parser.add_argument("--split", default="test", choices=SPLIT_CHOICES, help="images to search (test)")
    parser.add_argument("--pictures", type=Path, help="folder that names of pictures start from (that of the data)")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--text", help="a caption as the query")
    query.add_argument("--image", type=Path, help="a picture as the query")
    query.add_argument("--row", type=int, help="an image of the gallery as the query, by its row from 0")
    query.add_argument("--caption-row", type=int, help="a caption of the gallery as the query, by its row from 0")
    parser.add_argument("--find", choices=KINDS, help="what to find (images for a text, captions for a picture)")
    parser.add_argument("--count", type=int, default=10, help="how many to find (10)")
    parser.add_argument("--index", type=Path, help="index of faiss over the rows of --gallery (all are compared)")
    parser.add_argument("--html", type=Path, help="write a page with pictures there, and print no JSON")
    add_options(parser, "--hubness", "--device")
    return parser


if __name__ == "__main__":
    run(main)

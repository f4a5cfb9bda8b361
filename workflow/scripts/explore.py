"""Open a page on this machine that searches pictures while you type, with the heads of a run."""

import argparse
import logging
import socket
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.serving.aligned_model import open_model
from frozenalign.serving.explore_app import INSTALL, LOOPBACK, explore_app
from frozenalign.serving.explorer import Explorer, Head, heads_of
from frozenalign.serving.galleries import IMAGES, SPLIT_CHOICES, SplitGallery
from frozenalign.serving.opening import recorded_data_dir
from frozenalign.serving.query_encoder import QueryEncoder
from frozenalign.serving.searcher import Searcher
from frozenalign.system.devices import choose_device
from frozenalign.system.errors import UserError, run
from frozenalign.system.optional_libraries import imported

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page until Ctrl-C."""
    arguments = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    explorer = opened(arguments)
    serving = imported("werkzeug.serving", INSTALL)
    explorer.prepared(next(iter(explorer.heads)), IMAGES)
    app = explore_app(explorer, (*LOOPBACK, arguments.host))
    try:
        listening = socket.create_server((arguments.host, arguments.port))
    except (OSError, OverflowError) as error:
        raise UserError(
            f"port {arguments.port} of {arguments.host} cannot be opened ({error}): choose another with --port"
        ) from error
    server = serving.make_server(arguments.host, arguments.port, app, threaded=True, fd=listening.fileno())
    print(f"open http://{arguments.host}:{server.port}/ (Ctrl-C ends it)", flush=True)
    server.serve_forever()


def opened(arguments: argparse.Namespace) -> Explorer:
    """Return what the arguments ask to explore."""
    heads = heads_of(arguments.results)
    split_dir = arguments.results / "split"
    data_dir = arguments.data_dir or recorded_data_dir(split_dir)
    device = choose_device(arguments.device)
    gallery = SplitGallery.open(data_dir, split_dir, arguments.split, arguments.pictures)

    def searcher(head: Head) -> Searcher:
        return Searcher(open_model(head.path, None, device), gallery, arguments.hubness)

    try:
        encoder = QueryEncoder.of_set(data_dir, "text", device)
    except UserError as error:
        encoder = error
    return Explorer(gallery, heads, searcher, encoder)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.explore", description=__doc__)
    parser.add_argument("--results", required=True, type=Path, help="folder of a run, results/DATASET")
    parser.add_argument("--data-dir", type=Path, help="folder with the train2017_* files (the one the split names)")
    parser.add_argument("--split", default="test", choices=SPLIT_CHOICES, help="images to explore (test)")
    parser.add_argument("--pictures", type=Path, help="folder that names of pictures start from (that of the data)")
    parser.add_argument("--port", type=int, default=8321, help="port of the page; 0 takes a free one (8321)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; others than this let others in")
    add_options(parser, "--hubness", "--device")
    return parser


if __name__ == "__main__":
    run(main)

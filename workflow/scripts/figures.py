"""Draw the pictures of evaluations: recall at K, similarities, and the projections in the plane."""

import argparse
import functools
import logging
import multiprocessing
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from threadpoolctl import threadpool_limits

from frozenalign.configuration.result_files import read_result
from frozenalign.plots.drawing import draw
from frozenalign.plots.figures import embedding_map, recall_at_k, similarity_histogram
from frozenalign.plots.maps import pca_map, tsne_map
from frozenalign.system.errors import UserError, run
from frozenalign.system.files import read_arrays, text_hash
from frozenalign.system.fingerprints import code_hash, content_hash

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write recall_at_k.png, similarity_histogram.png, embedding_pca.png and embedding_tsne.png of each evaluation."""
    arguments = _parser().parse_args(argv)
    folders = arguments.evaluations
    if arguments.processes < 1:
        raise UserError(f"--processes is {arguments.processes}: take 1 or a larger whole number")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    draw_folder = functools.partial(_draw, code=code_hash(Path(__file__)))
    # Forked workers need not import anything again; no threads were started, which a fork would lose.
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("fork"), _prepare_worker) as pool:
        drawn = [is_drawn for of_folder in pool.map(draw_folder, folders) for is_drawn in of_folder]
    logger.info("found: drew %d of %d pictures", sum(drawn), len(drawn))


def _prepare_worker() -> None:
    """Leave Ctrl-C to the parent, and compute in one thread: those of several workers would wait for each other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)


def _draw(folder: Path, code: str) -> list[bool]:
    """Draw what is not up to date in a folder and return of each picture whether it was drawn."""
    name = read_result(folder / "metrics.json")["experiment"]
    sources = [folder / "ranks.npz", folder / "samples.npz"]
    drawn_from = text_hash(f"{name} {code} {content_hash(sources)}")
    ranks, samples = (read_arrays(path) for path in sources)
    pairs = samples["images"], samples["texts"]
    similarities = samples["matches"], samples["non_matches"]
    figures = {
        "recall_at_k": lambda: recall_at_k(ranks["i2t"], ranks["t2i"], name),
        "similarity_histogram": lambda: similarity_histogram(*similarities, name),
        "embedding_pca": lambda: embedding_map(*pca_map(*pairs), name, "PCA"),
        "embedding_tsne": lambda: embedding_map(*tsne_map(*pairs), name, "t-SNE"),
    }
    return [draw(folder / f"{file}.png", drawn_from, figure) for file, figure in figures.items()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflow.scripts.figures", description=__doc__, fromfile_prefix_chars="@"
    )
    parser.add_argument(
        "--evaluations",
        nargs="+",
        required=True,
        type=Path,
        help="folders evaluation_results that `evaluate` wrote, or @FILE, one a line",
    )
    parser.add_argument("--processes", type=int, default=1, help="how many draw at the same time (1)")
    return parser


if __name__ == "__main__":
    run(main)

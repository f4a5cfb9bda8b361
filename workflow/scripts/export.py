"""Export a trained head as a folder to use without its run: safetensors, ONNX, sentence-transformers, a model card."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.serving.export import export
from frozenalign.serving.export_folder import CONFIG
from frozenalign.system.errors import run
from frozenalign.system.locks import only_writer

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write config.json, model.safetensors, the ONNX files, README.md, SHA256SUMS and, for some heads, modules."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder = arguments.output_dir or arguments.model.parent / "export"
    with only_writer(folder):
        refuse_foreign_results(folder, (CONFIG,))
        found = export(folder, arguments.model, arguments.data_dir, arguments.split_dir, not arguments.without_onnx)
    logger.info("written to %s", folder)
    logger.info("found: %s", found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.export", description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="best_model.pt of a head or a baseline")
    parser.add_argument("--data-dir", type=Path, help="folder with the encoding.json of its embeddings, to record them")
    parser.add_argument("--split-dir", type=Path, help="folder of the split it was trained on, for the model card")
    parser.add_argument("--without-onnx", action="store_true", help="leave the ONNX files out")
    parser.add_argument("--output-dir", type=Path, help="folder to write (export, beside the model)")
    return parser


if __name__ == "__main__":
    run(main)

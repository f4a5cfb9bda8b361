"""Run a tuning study to its budget, going on where an earlier run stopped."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from workflow.lib.batches import PairFiles
from workflow.lib.devices import choose_device, choose_precision
from workflow.lib.embeddings import EmbeddingFiles
from workflow.lib.errors import run
from workflow.lib.files import file_hash, save_figure, write_text, write_yaml
from workflow.lib.locks import only_writer
from workflow.lib.settings import load_study
from workflow.lib.study_results import best_experiment, importances, trials_table
from workflow.lib.training import load_training_data
from workflow.lib.tuning import StudyRun, run_study
from workflow.lib.tuning_figures import optimization_history, parameter_importance
from workflow.lib.variants import checked_name
from workflow.lib.worker_pool import prepare_workers

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write study.db, best_config.yaml, trials.csv and two pictures."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("workflow.lib.training").setLevel(logging.WARNING)
    with only_writer(arguments.output_dir):
        _tune(arguments)


def _tune(arguments: argparse.Namespace) -> None:
    settings = load_study(arguments.study)
    if settings.n_jobs > 1:
        prepare_workers("workflow.lib.tuning")
    name = checked_name(arguments.name or arguments.study.stem, "the study")
    device = choose_device(arguments.device)
    files = EmbeddingFiles.of(arguments.data_dir, "train2017")
    train, val = (
        PairFiles.open(files.images, files.texts, arguments.split_dir / f"{split}.npz")
        for split in (settings.data, "val")
    )
    data = load_training_data(train, val, choose_precision(arguments.precision, device)).to(device)
    inputs_hash = file_hash(arguments.split_dir / "manifest.json")
    output = arguments.output_dir
    study = run_study(StudyRun(name, settings, output / "study.db", inputs_hash), data)
    table = trials_table(study)
    write_text(output / "trials.csv", table.to_csv(index=False))
    best = best_experiment(study)
    write_yaml(output / "best_config.yaml", best)
    save_figure(output / "optimization_history.png", optimization_history(table, name))
    save_figure(output / "parameter_importance.png", parameter_importance(importances(study), name))
    logger.info("%s Written to %s", best["description"], output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.tune", description=__doc__)
    parser.add_argument("--study", required=True, type=Path, help="study file, config/tuning/NAME.yaml")
    parser.add_argument("--name", help="name of the study (the file's name)")
    parser.add_argument("--data-dir", required=True, type=Path, help="folder with the train2017_* files")
    parser.add_argument("--split-dir", required=True, type=Path, help="folder with the split's index files")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the study and its results")
    parser.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where to compute (auto)"
    )
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"], help="matrix products (auto)")
    return parser


if __name__ == "__main__":
    run(main)

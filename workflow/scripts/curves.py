"""Draw how heads learned and studies searched: the curves of each training, the trials of each study."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.result_files import read_result
from frozenalign.plots.drawing import draw
from frozenalign.plots.figures import training_curves
from frozenalign.plots.tuning import optimization_history, parameter_importance
from frozenalign.system.errors import run
from frozenalign.system.files import text_hash
from frozenalign.system.fingerprints import code_hash, content_hash
from frozenalign.tuning.trial_tables import read_trials

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write training_curves.png of each run, optimization_history.png and parameter_importance.png of each study."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    code = code_hash(Path(__file__))
    drawn = sum(_draw_training(folder, code) for folder in arguments.runs)
    drawn += sum(_draw_study(folder, code) for folder in arguments.studies)
    logger.info("found: drew %d of %d pictures", drawn, len(arguments.runs) + 2 * len(arguments.studies))


def _draw_training(folder: Path, code: str) -> int:
    """Draw the curves of a training where they are not up to date, and return how many pictures that were."""
    history = folder / "loss_history.json"
    described = read_result(folder / "resolved_config.yaml")
    title = f"{described['experiment']}, seed {described['seed']}"
    drawn_from = text_hash(f"{title} {code} {content_hash([history])}")
    return draw(folder / "training_curves.png", drawn_from, lambda: training_curves(read_result(history), title))


def _draw_study(folder: Path, code: str) -> int:
    """Draw the trials of a study where they are not up to date, and return how many pictures that were."""
    trials, study = folder / "trials.csv", read_result(folder / "study.json")
    drawn_from = text_hash(f"{code} {content_hash([trials, folder / 'study.json'])}")
    figures = {
        "optimization_history": lambda: optimization_history(read_trials(trials), study["study"], study["monitor"]),
        "parameter_importance": lambda: parameter_importance(study["importances"], study["study"]),
    }
    return sum(draw(folder / f"{file}.png", drawn_from, figure) for file, figure in figures.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflow.scripts.curves", description=__doc__, fromfile_prefix_chars="@"
    )
    parser.add_argument(
        "--runs", nargs="*", default=[], type=Path, help="run folders that `train` wrote, or @FILE, one a line"
    )
    parser.add_argument(
        "--studies", nargs="*", default=[], type=Path, help="study folders that `tune` wrote, or @FILE, one a line"
    )
    return parser


if __name__ == "__main__":
    run(main)

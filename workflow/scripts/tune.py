"""Run a tuning study up to its budget, continuing an interrupted one: tune_init, one tune_worker and tune_best."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.system.errors import run
from workflow.scripts import tune_best, tune_init, tune_worker


def main(argv: Sequence[str] | None = None) -> None:
    """Write the trials, best_config.yaml, trials.csv and study.json."""
    given = {name: value for name, value in vars(_parser().parse_args(argv)).items() if value is not None}
    if "memory" in given:
        given["memory"] /= 1e9  # It is given in gigabytes and read in bytes.
    words = {name: f"--{name.replace('_', '-')}={value}" for name, value in given.items()}
    of_all = [words.pop(name) for name in ("study", "name", "dataset", "split_dir", "output_dir") if name in words]
    tune_init.main(of_all)
    tune_worker.main([*of_all, *words.values()])
    tune_best.main(of_all)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.tune", description=__doc__)
    add_options(parser, "--study", "--name", "--dataset", "--data-dir", "--split-dir", "--start")
    add_options(parser, "--device", "--memory", "--precision")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the study and its results")
    return parser


if __name__ == "__main__":
    run(main)

"""Write the results of a finished tuning study: its best experiment and the table of its trials."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.data.inputs import Manifest
from frozenalign.system.errors import run
from frozenalign.system.files import write_json, write_text, write_yaml
from frozenalign.system.locks import only_writer
from frozenalign.tuning.opening import asked_study, open_study
from frozenalign.tuning.results import best_experiment, best_trial, importances, trials_table
from frozenalign.tuning.trial_budget import counted_trials, refuse_unfinished

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write best_config.yaml, trials.csv and study.json."""
    given = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    with only_writer(given.output_dir):
        refuse_foreign_results(given.output_dir, ("best_config.yaml", "trials.csv", "study.json"))
        _write_results(given)


def _write_results(given: argparse.Namespace) -> None:
    output = given.output_dir
    asked = asked_study(given.study, given.name, output, given.split_dir, given.dataset)
    study = open_study(asked, worker=0)
    refuse_unfinished(asked.study, study)
    write_text(output / "trials.csv", trials_table(study).to_csv(index=False))
    best = best_experiment(study, asked.study.monitor)
    write_yaml(output / "best_config.yaml", best)
    # Last, so that an interrupted run leaves no study.json that attributes older results to these inputs.
    inputs = asdict(Manifest.read(given.split_dir).inputs(asked.study.data))
    described = {
        "format": 2,
        "study": asked.name,
        "monitor": asked.study.monitor,
        "inputs": inputs,
        "importances": importances(study),
    }
    write_json(output / "study.json", described)
    logger.info("%s Written to %s", best["description"], output)
    found = asked.study.monitor, best_trial(study).value, len(counted_trials(study))
    logger.info("found: val %s %.1f, best of %d trials", *found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.tune_best", description=__doc__)
    add_options(parser, "--study", "--name", "--dataset", "--split-dir")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder of the study, for its results")
    return parser


if __name__ == "__main__":
    run(main)

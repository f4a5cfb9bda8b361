"""Make a tuning study where its workers find it, and refuse one that does not fit its earlier trials."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.system.errors import run
from frozenalign.system.files import write_json
from frozenalign.system.locks import only_writer
from frozenalign.tuning.opening import asked_study, create_study


def main(argv: Sequence[str] | None = None) -> None:
    """Make the study and write begun.json."""
    given = _parser().parse_args(argv)
    with only_writer(given.output_dir):
        refuse_foreign_results(given.output_dir, ("best_config.yaml", "trials.csv", "study.json", "begun.json"))
        asked = asked_study(given.study, given.name, given.output_dir, given.split_dir, given.dataset)
        create_study(asked)
        described = {"format": 1, "study": asked.name, "trials": asked.study.trials, "inputs": asked.inputs_hash}
        write_json(given.output_dir / "begun.json", described)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.tune_init", description=__doc__)
    add_options(parser, "--study", "--name", "--dataset", "--split-dir")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the study and its results")
    return parser


if __name__ == "__main__":
    run(main)

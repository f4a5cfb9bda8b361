"""Run a tuning study up to its budget, continuing an interrupted one."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from frozenalign.configuration.arguments import add_options
from frozenalign.configuration.experiments import TrainingSettings, experiment_from
from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.configuration.studies import Study, load_study
from frozenalign.configuration.variants import checked_name
from frozenalign.data.manifests import open_split
from frozenalign.system.devices import choose_device, choose_precision, device_type
from frozenalign.system.errors import run
from frozenalign.system.files import write_json, write_text, write_yaml
from frozenalign.system.locks import only_writer
from frozenalign.training.epochs import batch_warnings
from frozenalign.training.memory_plan import Demand, choose_order, load_within
from frozenalign.training.starts import fit_start, read_start
from frozenalign.tuning.results import best_experiment, importances, trials_table
from frozenalign.tuning.study import StudyRun, run_study
from frozenalign.tuning.trial_budget import counted_trials
from frozenalign.tuning.worker_pool import prepare_workers

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write study.db, best_config.yaml, trials.csv and study.json."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("frozenalign.training.fit").setLevel(logging.WARNING)
    with only_writer(arguments.output_dir):
        refuse_foreign_results(arguments.output_dir, ("best_config.yaml", "trials.csv", "study.json"))
        _tune(arguments)


def _tune(arguments: argparse.Namespace) -> None:
    settings = load_study(arguments.study)
    if settings.n_jobs > 1:
        prepare_workers("frozenalign.tuning.study")
    name = checked_name(arguments.name or arguments.study.stem, "the study")
    # Workers of a study share the data in the machine's memory; each copies them to a device of its own.
    device = torch.device("cpu") if settings.n_jobs > 1 else choose_device(arguments.device)
    opened = open_split(arguments.data_dir, arguments.split_dir, [settings.data, "val"])
    precision = choose_precision(arguments.precision, torch.device(device_type(arguments.device)))
    base = experiment_from(settings.base, "base")
    largest = replace(base, training=_with_largest_batches(settings, base.training))
    demand = Demand.of(largest, opened.pairs[settings.data], opened.pairs["val"], precision)
    demand = replace(demand, processes=settings.n_jobs)
    data = load_within(demand, choose_order(demand, arguments.memory), device)
    for text in batch_warnings(data.train, largest.training):
        logger.warning("warning: %s", text)
    output, inputs = arguments.output_dir, opened.manifest.inputs(settings.data)
    canonical = None
    if settings.starts_from_cca and arguments.start:
        canonical = read_start(arguments.start, inputs, opened.manifest.rows.values())
    elif settings.starts_from_cca:
        canonical = fit_start(data)
    study = run_study(StudyRun(name, settings, output / "study.db", inputs.digest(), canonical, arguments.device), data)
    write_text(output / "trials.csv", trials_table(study).to_csv(index=False))
    best = best_experiment(study)
    write_yaml(output / "best_config.yaml", best)
    # Last, so that an interrupted run leaves no study.json that attributes older results to these inputs.
    described = {"format": 2, "study": name, "inputs": asdict(inputs), "importances": importances(study)}
    write_json(output / "study.json", described)
    logger.info("%s Written to %s", best["description"], output)
    logger.info("found: val RSUM %.1f, best of %d trials", study.best_value, len(counted_trials(study)))


def _with_largest_batches(study: Study, training: TrainingSettings) -> TrainingSettings:
    """Return the training settings of a study's base with the largest batch size of its search space."""
    entries = [entry for entry in study.search_space if entry.key == "training.batch_size"]
    sizes = [int(size) for entry in entries for size in (*entry.choices, entry.high) if size is not None]
    return replace(training, batch_size=max([training.batch_size, *sizes]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.tune", description=__doc__)
    parser.add_argument("--study", required=True, type=Path, help="study file, config/tuning/NAME.yaml")
    parser.add_argument("--name", help="name of the study (the file's name)")
    add_options(parser, "--data-dir", "--split-dir", "--start", "--device", "--memory", "--precision")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the study and its results")
    return parser


if __name__ == "__main__":
    run(main)

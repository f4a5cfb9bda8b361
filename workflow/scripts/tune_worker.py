"""Run trials of a tuning study until it has all of them, beside any number of other workers."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from frozenalign.configuration.arguments import add_options
from frozenalign.configuration.search_space import largest_experiments
from frozenalign.system.errors import run
from frozenalign.system.files import write_json
from frozenalign.tuning.opening import StudyRun, asked_study, open_study
from frozenalign.tuning.trial_budget import counted_trials, is_complete

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Run trials and write workers/NUMBER-of-WORKERS.json."""
    given = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("frozenalign.training.fit").setLevel(logging.WARNING)
    asked = asked_study(given.study, given.name, given.output_dir, given.split_dir, given.dataset)
    study = open_study(asked, given.worker)
    if not is_complete(asked.study, study):
        _work(asked, given)
    counted = {trial.number: trial.value for trial in counted_trials(study)}
    name = f"{given.worker}-of-{asked.study.workers}.json"
    write_json(given.output_dir / "workers" / name, {"format": 1, "study": asked.name, "trials": counted})
    logger.info("found: %d of %d trials", len(counted), asked.study.trials)


def _work(asked: StudyRun, given: argparse.Namespace) -> None:
    # Imported here: a worker that comes late, to a finished study, ends before PyTorch would be loaded.
    import torch

    from frozenalign.data.manifests import open_split
    from frozenalign.system.devices import choose_device, choose_precision, device_type
    from frozenalign.training.epochs import batch_warnings
    from frozenalign.training.memory_plan import Demand, choose_order, load_within
    from frozenalign.training.starts import fit_start, read_start
    from frozenalign.tuning.study import run_study
    from frozenalign.tuning.worker_pool import prepare_workers

    settings = asked.study
    if settings.n_jobs > 1:
        prepare_workers("frozenalign.tuning.study")
    # The processes of one job share the data in the machine's memory; each copies them to a device of its own.
    device = torch.device("cpu") if settings.n_jobs > 1 else choose_device(given.device)
    opened = open_split(given.data_dir, given.split_dir, [settings.data, "val"])
    precision = choose_precision(given.precision, torch.device(device_type(given.device)))
    files = opened.pairs[settings.data], opened.pairs["val"]
    largest = Demand.of_largest(largest_experiments(settings), *files, precision, given.precision)
    demand = replace(largest, processes=settings.n_jobs, handed_over=settings.n_jobs > 1)
    data = load_within(demand, choose_order(demand, given.memory), device)
    for text in batch_warnings(data.train, demand.settings):
        logger.warning("warning: %s", text)
    canonical = None
    if settings.takes_a_start and given.start:
        canonical = read_start(given.start, opened.manifest.inputs(settings.data), opened.manifest.rows.values())
    elif settings.starts_from_cca:
        canonical = fit_start(data)
    run_study(asked, data, canonical, given.worker - 1, given.device)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.tune_worker", description=__doc__)
    add_options(parser, "--study", "--name", "--dataset", "--data-dir", "--split-dir", "--start")
    add_options(parser, "--device", "--memory", "--precision")
    parser.add_argument("--worker", type=int, default=1, help="number of this worker, from 1 (1)")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder of the study")
    return parser


if __name__ == "__main__":
    run(main)

"""Train one projection head and keep the weights of its best validation epoch."""

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from frozenalign.configuration.arguments import add_options
from frozenalign.configuration.experiments import Experiment, load_experiment
from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.configuration.variants import changes_from, checked_name
from frozenalign.data.inputs import Inputs
from frozenalign.data.manifests import SplitFiles, open_split
from frozenalign.data.pairs import PairFiles
from frozenalign.system.devices import choose_device, choose_precision
from frozenalign.system.errors import UserError, run
from frozenalign.system.files import file_hash, write_json
from frozenalign.system.fingerprints import code_hash, fingerprint
from frozenalign.system.finished import Finished
from frozenalign.system.launching import Place, joined, start_processes
from frozenalign.system.locks import only_writer
from frozenalign.system.processes import Processes
from frozenalign.system.provenance import run_facts, versions
from frozenalign.system.random_state import refuse_negative_seed
from frozenalign.training.checkpoints import SECONDS, Checkpoint, kept_fingerprint
from frozenalign.training.data import TrainingData, held_format
from frozenalign.training.divergence import DivergenceError
from frozenalign.training.epochs import batch_warnings
from frozenalign.training.fit import Fit, fit
from frozenalign.training.memory_plan import Demand, choose_order, load_within
from frozenalign.training.results import (
    DIVERGED,
    MODEL,
    RESULTS,
    description,
    found_warnings,
    write_diverged,
    write_training,
)
from frozenalign.training.starts import read_start

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"


def main(argv: Sequence[str] | None = None) -> None:
    """Write best_model.pt, loss_history.json, resolved_config.yaml and run.json."""
    arguments = _parser().parse_args(argv)
    refuse_negative_seed(arguments.seed)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    devices = load_experiment(arguments.experiment, _changes(arguments)).training.devices
    if devices > 1 and Place.found(os.environ) is None:
        words = sys.argv[1:] if argv is None else argv
        start_processes(devices, arguments.device, [sys.executable, str(Path(__file__).parent), "train", *words])
        return
    with joined(devices, arguments.device) as processes, contextlib.ExitStack() as held:
        if processes.first:
            held.enter_context(only_writer(arguments.output_dir))
            refuse_foreign_results(arguments.output_dir, (*RESULTS, DIVERGED, CHECKPOINT))
        _train(arguments, processes)


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the changed keys of the experiment; the last change of a key counts."""
    return {key: value for each in arguments.set for key, value in each.items()}


@dataclass(frozen=True)
class Task:
    """What a command asks to train, on which data and where. changes: of the experiment's keys, by their dotted names.

    decisive: all that decides the weights.
    """

    experiment: Experiment
    name: str
    changes: dict[str, Any]
    opened: SplitFiles
    train: PairFiles
    inputs: Inputs
    device: torch.device
    precision: torch.dtype
    decisive: tuple[Any, ...]

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "Task":
        """Read the experiment and open the data."""
        changes = _changes(arguments)
        experiment, name = load_experiment(arguments.experiment, changes), _name(arguments, changes)
        device = choose_device(arguments.device)
        precision = choose_precision(arguments.precision, device)
        opened = open_split(arguments.data_dir, arguments.split_dir, [arguments.train_split, "val"])
        inputs = opened.manifest.inputs(arguments.train_split)
        data = inputs, arguments.train_split, arguments.start and file_hash(arguments.start)
        formats = precision, held_format(precision, arguments.precision)
        decisive = experiment, arguments.seed, *data, device.type, formats, code_hash(Path(__file__))
        train = opened.pairs[arguments.train_split]
        return cls(experiment, name, changes, opened, train, inputs, device, precision, decisive)


def _train(arguments: argparse.Namespace, processes: Processes) -> None:
    began = time.perf_counter()
    task = Task.of(arguments)
    dataset = arguments.dataset or task.opened.manifest.dataset
    changed = {"base": arguments.experiment.stem, "changes": task.changes} if task.changes else {}
    made_by = fingerprint(task.decisive, dataset, task.name, changed, versions())
    finished = Finished(arguments.output_dir, RESULTS, made_by)
    if (found := finished.again()) is not None:
        logger.info("found: %s", found)
        return
    pairs = len(task.train.split.text_rows)
    logger.info("%s: %d pairs on %s in %s", task.name, pairs, task.device, task.precision)
    rows = task.opened.manifest.rows.values()
    canonical = read_start(arguments.start, task.inputs, rows) if arguments.start else None
    data, checkpoint = _loaded(task, arguments, processes)
    warnings = batch_warnings(data.train, task.experiment.training)
    if arguments.train_split != "train":
        warnings.insert(0, f"trained on {arguments.train_split}, {pairs} pairs, not on all training pairs")
    _warn(warnings)
    who = description(task.experiment, task.name, dataset, arguments.seed, is_changed=bool(changed))
    described = who | {"inputs": asdict(task.inputs), "warnings": warnings}
    state = {"checkpoint": checkpoint, "canonical": canonical, "processes": processes}
    trained = _fitted(task, arguments, data, described, state)
    if not processes.first:
        return
    _warn(found_warnings(described, trained))
    write_training(arguments.output_dir, described, changed, trained)
    seconds = time.perf_counter() - began
    _write_costs(arguments.output_dir, task, trained, seconds)
    logger.info("written to %s, %.1f s", arguments.output_dir, seconds)
    best = f"val {task.experiment.training.monitor} {trained.best_value:.1f}"
    found = f"{best}, epoch {trained.best_epoch} of {trained.epoch}"
    finished.keep(found)
    logger.info("found: %s", found)


def _loaded(task: Task, arguments: argparse.Namespace, processes: Processes) -> tuple[TrainingData, Checkpoint | None]:
    """Return the data, held or streamed as memory allows, and in the first process the checkpoint of this order."""
    path = arguments.output_dir / CHECKPOINT
    kept = kept_fingerprint(path)
    is_kept = kept and (lambda order: fingerprint(task.decisive, order) == kept)
    alone = Demand.of(task.experiment, task.train, task.opened.pairs["val"], task.precision, arguments.precision)
    demand = replace(alone, processes=processes.count)
    order = processes.from_first(lambda: choose_order(demand, arguments.memory, is_kept))
    resumed_by = fingerprint(task.decisive, order)
    checkpoint = Checkpoint(path, resumed_by, arguments.checkpoint_seconds) if processes.first else None
    return load_within(demand, order, task.device), checkpoint


def _fitted(
    task: Task, arguments: argparse.Namespace, data: TrainingData, described: Mapping[str, Any], state: dict[str, Any]
) -> Fit:
    """Return the ended training; the best weights of one that diverges are saved. state: what `fit` goes on from."""
    try:
        return fit(task.experiment, data, arguments.seed, **state)
    except DivergenceError as error:
        if state["processes"].first and error.state.best_state:
            raise UserError(f"{error}; {write_diverged(arguments.output_dir, described, error.state)}") from error
        raise


def _write_costs(output: Path, task: Task, trained: Fit, seconds: float) -> None:
    parameters = sum(value.numel() for value in trained.model.parameters())
    how = run_facts(task.device, task.precision, seconds, parameters, [output / MODEL])
    write_json(output / "run.json", how)


def _warn(warnings: Sequence[str]) -> None:
    for text in warnings:
        logger.warning("warning: %s", text)


def _name(arguments: argparse.Namespace, changes: Mapping[str, Any]) -> str:
    """Return the experiment's name, which for a changed experiment must differ from its file's name."""
    own = arguments.experiment.stem
    name = checked_name(arguments.name or (f"{own}-changed" if changes else own), "the experiment")
    if changes and name == own:
        raise UserError(f"--name {name} is the name of the experiment that --set changes: give the changed one another")
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.train", description=__doc__)
    parser.add_argument("--experiment", required=True, type=Path, help="experiment file, config/experiments/NAME.yaml")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=changes_from,
        metavar="KEY=VALUE",
        help="change a key of the experiment, for example model.skip=none; may be repeated, or be one JSON object",
    )
    parser.add_argument("--name", help="name in the report (the file's name, with -changed after --set)")
    add_options(parser, "--dataset", "--data-dir", "--split-dir", "--start", "--device", "--memory", "--precision")
    parser.add_argument(
        "--train-split", default="train", choices=["train", "train_tuning"], help="rows to train on (train)"
    )
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the model and its history")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, batches and dropout (0)")
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=SECONDS, help="time between two checkpoints, in seconds (30)"
    )
    return parser


if __name__ == "__main__":
    run(main)

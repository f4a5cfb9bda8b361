"""Train one projection head and keep the weights of its best validation epoch."""

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from frozenalign.configuration.arguments import add_options
from frozenalign.configuration.experiments import load_experiment
from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.configuration.variants import changes_from, checked_name
from frozenalign.data.manifests import open_split
from frozenalign.models.model_file import save_heads
from frozenalign.system.devices import choose_device, choose_precision
from frozenalign.system.errors import UserError, run
from frozenalign.system.files import file_hash, write_json, write_yaml
from frozenalign.system.fingerprints import code_hash, fingerprint
from frozenalign.system.finished import Finished
from frozenalign.system.launching import Place, joined, start_processes
from frozenalign.system.locks import only_writer
from frozenalign.system.processes import Processes
from frozenalign.system.provenance import run_facts, versions
from frozenalign.system.random_state import refuse_negative_seed
from frozenalign.training.checkpoints import SECONDS, Checkpoint, kept_fingerprint
from frozenalign.training.data import held_format
from frozenalign.training.divergence import DivergenceError
from frozenalign.training.epochs import batch_warnings
from frozenalign.training.fit import Fit, average_warnings, choice_warnings, fit
from frozenalign.training.memory_plan import Demand, choose_order, load_within
from frozenalign.training.starts import read_start

logger = logging.getLogger(__name__)

DIVERGED = "best_before_divergence.pt"
CHECKPOINT = "checkpoint.pt"
RESULTS = ("best_model.pt", "loss_history.json", "resolved_config.yaml", "run.json")


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


def _train(arguments: argparse.Namespace, processes: Processes) -> None:
    changes = _changes(arguments)
    experiment = load_experiment(arguments.experiment, changes)
    name = _name(arguments, changes)
    device = choose_device(arguments.device)
    precision = choose_precision(arguments.precision, device)
    began = time.perf_counter()
    opened = open_split(arguments.data_dir, arguments.split_dir, [arguments.train_split, "val"])
    train, inputs = opened.pairs[arguments.train_split], opened.manifest.inputs(arguments.train_split)
    canonical = read_start(arguments.start, inputs, opened.manifest.rows.values()) if arguments.start else None
    start_hash = arguments.start and file_hash(arguments.start)
    code = code_hash(Path(__file__))
    formats = precision, held_format(precision, arguments.precision)
    decisive = (experiment, arguments.seed, inputs, arguments.train_split, start_hash, device.type, formats, code)
    changed = {"base": arguments.experiment.stem, "changes": changes} if changes else {}
    dataset = arguments.dataset or opened.manifest.dataset
    made_by = fingerprint(decisive, dataset, name, changed, versions())
    finished = Finished(arguments.output_dir, RESULTS, made_by)
    if (found := finished.again()) is not None:
        logger.info("found: %s", found)
        return
    logger.info("%s: %d pairs on %s in %s", name, len(train.split.text_rows), device, precision)
    path = arguments.output_dir / CHECKPOINT
    kept = kept_fingerprint(path)
    alone = Demand.of(experiment, train, opened.pairs["val"], precision, arguments.precision)
    demand = replace(alone, processes=processes.count)
    is_kept = kept and (lambda order: fingerprint(decisive, order) == kept)
    order = processes.from_first(lambda: choose_order(demand, arguments.memory, is_kept))
    data = load_within(demand, order, device)
    warnings = batch_warnings(data.train, experiment.training)
    if arguments.train_split != "train":
        pairs = len(train.split.text_rows)
        warnings.insert(0, f"trained on {arguments.train_split}, {pairs} pairs, not on all training pairs")
    # A variant that was trained on wrong pairs is a control as well.
    kind = "control" if experiment.training.control != "none" else "variant" if changes else "head"
    described = {
        "dataset": dataset,
        "experiment": name,
        "kind": kind,
        "seed": arguments.seed,
        "inputs": asdict(inputs),
        "warnings": warnings,
        "settings": experiment.as_document(),
    }
    _warn(warnings)
    resumed_by = fingerprint(decisive, order)
    checkpoint = Checkpoint(path, resumed_by, arguments.checkpoint_seconds) if processes.first else None
    try:
        trained = fit(experiment, data, arguments.seed, checkpoint=checkpoint, canonical=canonical, processes=processes)
    except DivergenceError as error:
        if processes.first and error.state.best_state:
            raise UserError(f"{error}; {_best_before(arguments.output_dir, described, error.state)}") from error
        raise
    if not processes.first:
        return
    seconds = time.perf_counter() - began
    _warn(_found_warnings(trained, experiment.training.monitor))
    _save(arguments.output_dir, _facts(described, trained), changed, trained)
    parameters = sum(value.numel() for value in trained.model.parameters())
    how = run_facts(device, precision, seconds, parameters, [arguments.output_dir / "best_model.pt"])
    write_json(arguments.output_dir / "run.json", how)
    logger.info("written to %s, %.1f s", arguments.output_dir, seconds)
    best = f"val {experiment.training.monitor} {trained.best_value:.1f}"
    found = f"{best}, epoch {trained.best_epoch} of {trained.epoch}"
    finished.keep(found)
    logger.info("found: %s", found)


def _warn(warnings: Sequence[str]) -> None:
    for text in warnings:
        logger.warning("warning: %s", text)


def _found_warnings(trained: Fit, monitor: str) -> list[str]:
    """Return what an ended training has to say about the choice of its weights."""
    return choice_warnings(trained.history, monitor) + average_warnings(trained)


def _name(arguments: argparse.Namespace, changes: Mapping[str, Any]) -> str:
    """Return the experiment's name, which for a changed experiment must differ from its file's name."""
    own = arguments.experiment.stem
    name = checked_name(arguments.name or (f"{own}-changed" if changes else own), "the experiment")
    if changes and name == own:
        raise UserError(f"--name {name} is the name of the experiment that --set changes: give the changed one another")
    return name


def _facts(described: Mapping[str, Any], trained: Fit) -> dict[str, Any]:
    """Return the facts of a model file: the description of the training, and the epoch of the weights."""
    best = next(record for record in trained.history if record["epoch"] == trained.best_epoch)
    unsure = _found_warnings(trained, described["settings"]["training"]["monitor"])
    chosen = {"epoch": trained.best_epoch, "selected": {"split": "val", "RSUM": best["val"]["RSUM"]}}
    return {**described, **chosen, "warnings": [*described["warnings"], *unsure]}


def _best_before(output: Path, described: Mapping[str, Any], diverged: Fit) -> str:
    """Save the best weights of a training that diverged, under a name that no other step reads; return where."""
    path = output / DIVERGED
    diverged.model.load_state_dict(diverged.best_state)
    save_heads(path, diverged.model, _facts(described, diverged))
    return f"the weights of epoch {diverged.best_epoch}, the best before, are in {path}"


def _save(output: Path, facts: Mapping[str, Any], changed: Mapping[str, Any], trained: Fit) -> None:
    settings = facts["settings"]
    save_heads(output / "best_model.pt", trained.model, facts)
    who = {key: facts[key] for key in ("experiment", "kind", "seed")}
    write_yaml(output / "resolved_config.yaml", {"format": 1, **who, **changed, **settings})
    history = {
        "format": 1,
        "monitor": settings["training"]["monitor"],
        "best_epoch": trained.best_epoch,
        "stopped_early": trained.epoch < settings["training"]["num_epochs"],
        "epochs": trained.history,
    }
    write_json(output / "loss_history.json", history)
    (output / DIVERGED).unlink(missing_ok=True)


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

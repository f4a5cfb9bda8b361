"""Train one projection head and keep the weights of its best validation epoch."""

import argparse
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from frozenalign.configuration.experiments import Experiment, load_experiment
from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.configuration.variants import changes_from, checked_name
from frozenalign.data.manifests import Inputs, open_split
from frozenalign.data.pairs import PairFiles
from frozenalign.models.model_file import save_heads
from frozenalign.system.devices import choose_device, choose_precision
from frozenalign.system.errors import UserError, run
from frozenalign.system.files import file_hash, text_hash, write_json, write_yaml
from frozenalign.system.fingerprints import code_hash
from frozenalign.system.locks import only_writer
from frozenalign.system.provenance import run_facts
from frozenalign.system.random_state import refuse_negative_seed
from frozenalign.training.checkpoints import SECONDS, Checkpoint
from frozenalign.training.data import load_training_data
from frozenalign.training.divergence import DivergenceError
from frozenalign.training.epochs import batch_warnings
from frozenalign.training.fit import Fit, choice_warnings, fit
from frozenalign.training.starts import read_start

logger = logging.getLogger(__name__)

DIVERGED = "best_before_divergence.pt"
CHECKPOINT = "checkpoint.pt"
WRITTEN = ("best_model.pt", "loss_history.json", "resolved_config.yaml", "run.json", DIVERGED, CHECKPOINT)


@dataclass(frozen=True)
class Description:
    """Who is trained, and on what; warnings belong beside every number of it."""

    dataset: str
    name: str
    kind: str
    seed: int
    experiment: Experiment
    inputs: Inputs
    warnings: list[str]

    def facts(self, trained: Fit) -> dict[str, Any]:
        """Return what a model file says of its weights."""
        best = next(record for record in trained.history if record["epoch"] == trained.best_epoch)
        return {
            "dataset": self.dataset,
            "experiment": self.name,
            "kind": self.kind,
            "seed": self.seed,
            "epoch": trained.best_epoch,
            "selected": {"split": "val", "RSUM": best["val"]["RSUM"]},
            "inputs": asdict(self.inputs),
            "warnings": [*self.warnings, *choice_warnings(trained.history, self.experiment.training.monitor)],
            "settings": self.experiment.as_document(),
        }


def main(argv: Sequence[str] | None = None) -> None:
    """Write best_model.pt, loss_history.json, resolved_config.yaml and run.json."""
    arguments = _parser().parse_args(argv)
    refuse_negative_seed(arguments.seed)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s", datefmt="%H:%M:%S")
    with only_writer(arguments.output_dir):
        refuse_foreign_results(arguments.output_dir, WRITTEN)
        _train(arguments)


def _train(arguments: argparse.Namespace) -> None:
    changes = _changes(arguments)
    experiment = load_experiment(arguments.experiment, changes)
    name = _name(arguments, changes)
    device = choose_device(arguments.device)
    precision = choose_precision(arguments.precision, device)
    began = time.perf_counter()
    opened = open_split(arguments.data_dir, arguments.split_dir, [arguments.train_split, "val"])
    train, inputs = opened.pairs[arguments.train_split], opened.manifest.inputs(arguments.train_split)
    canonical = read_start(arguments.start, inputs, opened.manifest.rows.values()) if arguments.start else None
    logger.info("%s: %d pairs on %s in %s", name, len(train.split.text_rows), device, precision)
    data = load_training_data(train, opened.pairs["val"], precision).to(device)
    warnings = [*_sample_warnings(arguments.train_split, train), *batch_warnings(data.train, experiment.training)]
    kind = _kind(experiment, changes)
    described = Description(arguments.dataset, name, kind, arguments.seed, experiment, inputs, warnings)
    _warn(described.warnings)
    begin = arguments.start and file_hash(arguments.start)
    code = code_hash(Path(__file__))
    decisive = (experiment, arguments.seed, inputs, arguments.train_split, begin, device, precision, code)
    path = arguments.output_dir / CHECKPOINT
    checkpoint = Checkpoint(path, text_hash(repr(decisive)), arguments.checkpoint_seconds)
    try:
        trained = fit(experiment, data, arguments.seed, checkpoint=checkpoint, canonical=canonical)
    except DivergenceError as error:
        if error.state.best_state:
            raise UserError(f"{error}; {_best_before(arguments.output_dir, described, error.state)}") from error
        raise
    seconds = time.perf_counter() - began
    _warn(choice_warnings(trained.history, experiment.training.monitor))
    _save(arguments.output_dir, described, _base_and_changes(arguments), trained)
    parameters = sum(value.numel() for value in trained.model.parameters())
    how = run_facts(device, precision, seconds, parameters, [arguments.output_dir / "best_model.pt"])
    write_json(arguments.output_dir / "run.json", how)
    logger.info("written to %s, %.1f s", arguments.output_dir, seconds)
    chosen_by = experiment.training.monitor, trained.best_value
    logger.info("found: val %s %.1f, epoch %d of %d", *chosen_by, trained.best_epoch, trained.epoch)


def _warn(warnings: Sequence[str]) -> None:
    for text in warnings:
        logger.warning("warning: %s", text)


def _sample_warnings(split: str, pairs: PairFiles) -> list[str]:
    """Return a warning if a head was not trained on all training pairs."""
    if split == "train":
        return []
    return [f"trained on {split}, {len(pairs.split.text_rows)} pairs, not on all training pairs"]


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keys that all `--set` arguments change; the last one of a key counts."""
    return {key: value for changes in arguments.set for key, value in changes.items()}


def _name(arguments: argparse.Namespace, changes: Mapping[str, Any]) -> str:
    """Return the experiment's name; a changed one has another than its file, for which its results would be taken."""
    own = arguments.experiment.stem
    name = checked_name(arguments.name or (f"{own}-changed" if changes else own), "the experiment")
    if changes and name == own:
        raise UserError(f"--name {name} is the name of the experiment that --set changes: give the changed one another")
    return name


def _kind(experiment: Experiment, changes: Mapping[str, Any]) -> str:
    """Return what the board calls a head: whatever it varies, one that was trained on wrong pairs is a control."""
    if experiment.training.control != "none":
        return "control"
    return "variant" if changes else "head"


def _base_and_changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what resolved_config.yaml says of an experiment that `--set` has changed."""
    changes = _changes(arguments)
    return {"base": arguments.experiment.stem, "changes": changes} if changes else {}


def _best_before(output: Path, described: Description, diverged: Fit) -> str:
    """Keep the best weights of a training that diverged where no step looks for a finished one; say where."""
    path = output / DIVERGED
    diverged.model.load_state_dict(diverged.best_state)
    save_heads(path, diverged.model, described.facts(diverged))
    return f"the weights of epoch {diverged.best_epoch}, the best before, are in {path}"


def _save(output: Path, described: Description, changed: Mapping[str, Any], trained: Fit) -> None:
    experiment, facts = described.experiment, described.facts(trained)
    save_heads(output / "best_model.pt", trained.model, facts)
    who = {key: facts[key] for key in ("experiment", "kind", "seed")}
    write_yaml(output / "resolved_config.yaml", {"format": 1, **who, **changed, **facts["settings"]})
    history = {
        "format": 1,
        "monitor": experiment.training.monitor,
        "best_epoch": trained.best_epoch,
        "stopped_early": trained.epoch < experiment.training.num_epochs,
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
    parser.add_argument("--dataset", default="", help="name of the data set, for the report")
    parser.add_argument("--data-dir", required=True, type=Path, help="folder with the train2017_* files")
    parser.add_argument("--split-dir", required=True, type=Path, help="folder with the split's index files")
    parser.add_argument(
        "--train-split", default="train", choices=["train", "train_tuning"], help="rows to train on (train)"
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="best_model.pt of the baseline cca, for heads that start from it (the CCA is fitted here)",
    )
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the model and its history")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, batches and dropout (0)")
    parser.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where to compute (auto)"
    )
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"], help="matrix products (auto)")
    parser.add_argument(
        "--checkpoint-seconds", type=float, default=SECONDS, help="time between two checkpoints, in seconds (30)"
    )
    return parser


if __name__ == "__main__":
    run(main)

"""Evaluate several trained heads as one, whose similarity is the mean of theirs."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from frozenalign.configuration.arguments import add_options
from frozenalign.configuration.foreign_results import EVALUATION, refuse_foreign_results
from frozenalign.configuration.result_files import read_result
from frozenalign.configuration.variants import checked_name
from frozenalign.evaluation.members import load_members
from frozenalign.evaluation.metrics import summarize
from frozenalign.evaluation.projections import project_files
from frozenalign.evaluation.protocol import Protocol
from frozenalign.evaluation.results import write_evaluation
from frozenalign.models.ensemble import Ensemble
from frozenalign.system.devices import choose_device
from frozenalign.system.errors import UserError, run
from frozenalign.system.files import file_hash, write_json, write_yaml
from frozenalign.system.fingerprints import code_hash, content_hash, fingerprint
from frozenalign.system.finished import Finished
from frozenalign.system.locks import only_writer
from frozenalign.system.provenance import run_facts, versions

logger = logging.getLogger(__name__)
RESULTS = ("resolved_config.yaml", "run.json", *(f"evaluation_results/{name}" for name in EVALUATION))


def main(argv: Sequence[str] | None = None) -> None:
    """Write resolved_config.yaml, run.json and the folder evaluation_results."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    name = checked_name(arguments.name, "the ensemble")
    with only_writer(arguments.output_dir):
        refuse_foreign_results(arguments.output_dir, RESULTS)
        _refuse_repeated(arguments.models)
        device = choose_device(arguments.device)
        protocol = Protocol(arguments.data_dir, arguments.split_dir, arguments.split, arguments.captions_rule)
        finished = Finished(arguments.output_dir, RESULTS, _made_by(arguments, name, protocol, device))
        if (found := finished.again()) is None:
            found = _write_ensemble(arguments, name, protocol, device)
            finished.keep(found)
    logger.info("found: %s", found)


def _made_by(arguments: argparse.Namespace, name: str, protocol: Protocol, device: torch.device) -> str:
    members = content_hash([*arguments.models, *(path.parent / "run.json" for path in arguments.models)])
    how = (protocol.split, protocol.captions_rule, protocol.content())
    return fingerprint(name, arguments.dataset, members, how, device.type, code_hash(Path(__file__)), versions())


def _write_ensemble(arguments: argparse.Namespace, name: str, protocol: Protocol, device: torch.device) -> str:
    """Write the results of an ensemble and return what was found."""
    models, trained = load_members(arguments.models)
    runs = [read_result(path.parent / "run.json") for path in arguments.models]
    model = Ensemble(models).eval()
    rsum = summarize(project_files(model, protocol.open().pairs["val"], device).ranks())["RSUM"]
    described = {"experiment": name, "kind": "ensemble", "seed": 0}
    dataset = arguments.dataset or trained[0].facts["dataset"]
    facts = described | {"dataset": dataset, "selected": {"split": "val", "RSUM": rsum}}
    results = arguments.output_dir / "evaluation_results"
    found = write_evaluation(results, model, facts, trained, protocol, device, arguments.parts)
    members = [{key: member.facts[key] for key in ("experiment", "seed")} for member in trained]
    settings = {"format": 1} | described | {"ensemble": {"members": members}}
    write_yaml(arguments.output_dir / "resolved_config.yaml", settings)
    seconds, parameters = (sum(run[key] for run in runs) for key in ("seconds", "parameters"))
    how = run_facts(device, torch.float32, seconds, parameters, arguments.models)
    write_json(arguments.output_dir / "run.json", how)
    return found


def _refuse_repeated(models: Sequence[Path]) -> None:
    """Raise UserError if a model is given twice: it would count twice in the mean."""
    seen: dict[str, Path] = {}
    for path in models:
        other = seen.setdefault(file_hash(path), path)
        if other is not path:
            raise UserError(f"--models: {path} holds the same model as {other}: give every member once")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflow.scripts.ensemble", description=__doc__, fromfile_prefix_chars="@"
    )
    parser.add_argument("--name", required=True, help="name of the ensemble in the report")
    parser.add_argument(
        "--models",
        nargs="+",
        required=True,
        type=Path,
        help="best_model.pt of every member, with run.json in the same folder, or @FILE, one a line",
    )
    add_options(parser, "--dataset", "--data-dir", "--split-dir", "--split", "--device", "--parts", "--captions-rule")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the facts and evaluation_results")
    return parser


if __name__ == "__main__":
    run(main)

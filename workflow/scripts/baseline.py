"""Fit a closed-form baseline; validation chooses its regularisers. It is saved like a head, as two linear maps."""

import argparse
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from frozenalign.closed_forms.choice import choose_maps, model_of
from frozenalign.closed_forms.registry import BASELINES
from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.data.manifests import open_split
from frozenalign.data.pairs import RAW, file_chunks, load_pairs
from frozenalign.models.model_file import save_heads
from frozenalign.system.errors import run
from frozenalign.system.files import write_json, write_yaml
from frozenalign.system.locks import only_writer
from frozenalign.system.provenance import run_facts
from frozenalign.system.random_state import refuse_negative_seed

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Write best_model.pt, resolved_config.yaml and run.json."""
    arguments = _parser().parse_args(argv)
    refuse_negative_seed(arguments.seed)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with only_writer(arguments.output_dir):
        refuse_foreign_results(arguments.output_dir, ("best_model.pt", "resolved_config.yaml", "run.json"))
        _write_baseline(arguments)


def _write_baseline(arguments: argparse.Namespace) -> None:
    began = time.perf_counter()
    opened = open_split(arguments.data_dir, arguments.split_dir, ["train", "val"])
    val = load_pairs(opened.pairs["val"], RAW, RAW, torch.float32)
    chosen = choose_maps(arguments.baseline, file_chunks(opened.pairs["train"]), val)
    seconds = time.perf_counter() - began
    model = model_of(chosen.candidate.pair)
    described = {"experiment": arguments.baseline, "kind": "baseline", "seed": arguments.seed}
    facts = described | {
        "dataset": arguments.dataset,
        "selected": {"split": "val", "RSUM": chosen.rsum},
        "inputs": asdict(opened.manifest.inputs()),
        "warnings": chosen.warnings,
    }
    model_file = arguments.output_dir / "best_model.pt"
    save_heads(model_file, model, facts)
    baseline = {"type": arguments.baseline, "chosen": chosen.candidate.chosen}
    write_yaml(arguments.output_dir / "resolved_config.yaml", {"format": 1} | described | {"baseline": baseline})
    parameters = sum(value.numel() for value in model.parameters())
    how = run_facts(torch.device("cpu"), torch.float32, seconds, parameters, [model_file])
    write_json(arguments.output_dir / "run.json", how)
    for text in chosen.warnings:
        logger.warning("warning: %s", text)
    logger.info("%s: val RSUM %.1f with %s, %.1f s", arguments.baseline, chosen.rsum, chosen.candidate.chosen, seconds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.baseline", description=__doc__)
    parser.add_argument("--baseline", required=True, choices=sorted(BASELINES), help="which closed form")
    parser.add_argument("--dataset", default="", help="name of the data set, for the report")
    parser.add_argument("--data-dir", required=True, type=Path, help="folder with the train2017_* files")
    parser.add_argument("--split-dir", required=True, type=Path, help="folder with the split's index files")
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the maps")
    parser.add_argument("--seed", type=int, default=0, help="number in the report; nothing here is random (0)")
    return parser


if __name__ == "__main__":
    run(main)

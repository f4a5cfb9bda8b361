"""Fit closed-form baselines, all from one pass over the training pairs; validation chooses their regularisers.

Each is saved like a head, as two linear maps. The file of the CCA is what heads start from.
"""

import argparse
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import torch

from frozenalign.closed_forms.canonical_maps import CanonicalMaps, choose_canonical_maps, save_canonical_maps
from frozenalign.closed_forms.choice import ChosenMaps, choose_maps, model_of
from frozenalign.closed_forms.registry import BASELINES
from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.data.manifests import Inputs, open_split
from frozenalign.data.moments import Moments
from frozenalign.data.pairs import RAW, ResidentPairs, file_chunks, load_pairs
from frozenalign.models.model_file import save_heads
from frozenalign.system.errors import run
from frozenalign.system.files import write_json, write_yaml
from frozenalign.system.locks import only_writer
from frozenalign.system.provenance import run_facts
from frozenalign.system.random_state import refuse_negative_seed

logger = logging.getLogger(__name__)
WRITTEN = ("best_model.pt", "resolved_config.yaml", "run.json")


def main(argv: Sequence[str] | None = None) -> None:
    """Write NAME/seedK/{best_model.pt,resolved_config.yaml,run.json} of every baseline."""
    arguments = _parser().parse_args(argv)
    refuse_negative_seed(arguments.seed)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folders = {name: arguments.output_dir / name / f"seed{arguments.seed}" for name in arguments.baselines}
    with ExitStack() as locks:
        for folder in folders.values():
            locks.enter_context(only_writer(folder))
            refuse_foreign_results(folder, WRITTEN)
        _write_baselines(arguments, folders)


def _write_baselines(arguments: argparse.Namespace, folders: dict[str, Path]) -> None:
    began = time.perf_counter()
    opened = open_split(arguments.data_dir, arguments.split_dir, ["train", "val"])
    val = load_pairs(opened.pairs["val"], RAW, RAW, torch.float32)
    moments = Moments.of(file_chunks(opened.pairs["train"]))
    shared = time.perf_counter() - began
    logger.info("one pass over %d training pairs, %.1f s", len(opened.pairs["train"].split.text_rows), shared)
    found = []
    for name, folder in folders.items():
        began = time.perf_counter()
        chosen = _choose(name, moments, val)
        seconds = shared + time.perf_counter() - began
        _save(folder, arguments, name, opened.manifest.inputs(), chosen, seconds)
        best = chosen[None]
        logger.info("%s: val RSUM %.1f with %s", name, best.rsum, best.candidate.chosen)
        found.append(f"{name} {best.rsum:.1f}")
    logger.info("found: val RSUM of %s", ", ".join(found))


def _choose(name: str, moments: Moments, val: ResidentPairs) -> dict[int | None, ChosenMaps]:
    """Return the best maps of a baseline under None; of the CCA also those for narrower outputs."""
    return choose_canonical_maps(moments, val) if name == "cca" else {None: choose_maps(name, moments, val)}


def _save(
    folder: Path,
    arguments: argparse.Namespace,
    name: str,
    inputs: Inputs,
    chosen: dict[int | None, ChosenMaps],
    seconds: float,
) -> None:
    best = chosen[None]
    described = {"experiment": name, "kind": "baseline", "seed": arguments.seed}
    facts = described | {
        "dataset": arguments.dataset,
        "selected": {"split": "val", "RSUM": best.rsum},
        "inputs": asdict(inputs),
        "warnings": best.warnings,
    }
    for text in best.warnings:
        logger.warning("warning: %s: %s", name, text)
    model_file = folder / "best_model.pt"
    if name == "cca":
        save_canonical_maps(model_file, CanonicalMaps.of(chosen), facts)
    else:
        save_heads(model_file, model_of(best.candidate.pair), facts)
    baseline = {"type": name, "chosen": best.candidate.chosen}
    write_yaml(folder / "resolved_config.yaml", {"format": 1} | described | {"baseline": baseline})
    parameters = sum(value.numel() for value in model_of(best.candidate.pair).parameters())
    how = run_facts(torch.device("cpu"), torch.float32, seconds, parameters, [model_file])
    write_json(folder / "run.json", how)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.baselines", description=__doc__)
    parser.add_argument("--baselines", required=True, nargs="+", choices=sorted(BASELINES), help="which closed forms")
    parser.add_argument("--dataset", default="", help="name of the data set, for the report")
    parser.add_argument("--data-dir", required=True, type=Path, help="folder with the train2017_* files")
    parser.add_argument("--split-dir", required=True, type=Path, help="folder with the split's index files")
    parser.add_argument(
        "--output-dir", required=True, type=Path, help="folder for NAME/seedK of every baseline, results/DATASET"
    )
    parser.add_argument("--seed", type=int, default=0, help="number in the report; nothing here is random (0)")
    return parser


if __name__ == "__main__":
    run(main)

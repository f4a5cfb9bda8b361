"""Fit closed-form baselines, all from one pass over the training pairs; validation chooses their regularisers.

Each is saved like a head, as two linear maps. The file of the CCA is what heads start from; it also has the
axes that whiten their rows.
"""

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from frozenalign.closed_forms.canonical_maps import CanonicalMaps, choose_canonical_maps, save_canonical_maps
from frozenalign.closed_forms.choice import ChosenMaps, choose_maps, model_of, refuse_too_wide
from frozenalign.closed_forms.decompositions import PrincipalAxes
from frozenalign.closed_forms.registry import BASELINES, Candidate
from frozenalign.configuration.arguments import add_options
from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.data.manifests import SplitFiles, open_split
from frozenalign.data.moments import Moments
from frozenalign.data.pairs import RAW, PairFiles, ResidentPairs, caption_chunks, load_pairs, pair_statistics
from frozenalign.models.model_file import save_heads
from frozenalign.system.errors import run
from frozenalign.system.files import write_json, write_yaml
from frozenalign.system.fingerprints import code_hash, fingerprint
from frozenalign.system.finished import Finished
from frozenalign.system.locks import only_writer
from frozenalign.system.provenance import run_facts, versions
from frozenalign.system.random_state import refuse_negative_seed

logger = logging.getLogger(__name__)
MODEL = "best_model.pt"
RESULTS = (MODEL, "resolved_config.yaml", "run.json")


def main(argv: Sequence[str] | None = None) -> None:
    """Write NAME/seedK/{best_model.pt,resolved_config.yaml,run.json} of every baseline."""
    arguments = _parser().parse_args(argv)
    refuse_negative_seed(arguments.seed)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folders = {name: arguments.output_dir / name / f"seed{arguments.seed}" for name in arguments.baselines}
    with ExitStack() as locks:
        for folder in folders.values():
            locks.enter_context(only_writer(folder))
            refuse_foreign_results(folder, RESULTS)
        _write_baselines(arguments, folders)


def _write_baselines(arguments: argparse.Namespace, folders: dict[str, Path]) -> None:
    opened = open_split(arguments.data_dir, arguments.split_dir, ["train", "val"])
    inputs, code = opened.manifest.inputs(), code_hash(Path(__file__))
    dataset = arguments.dataset or opened.manifest.dataset
    finished = {
        name: Finished(folder, RESULTS, fingerprint(name, dataset, arguments.seed, inputs, code, versions()))
        for name, folder in folders.items()
    }
    found = {name: step.again() for name, step in finished.items()}
    if missing := [name for name in folders if found[name] is None]:
        found |= _fit(arguments, opened, {name: finished[name] for name in missing})
    logger.info("found: val RSUM of %s", ", ".join(f"{name} {rsum}" for name, rsum in found.items()))


def _fit(arguments: argparse.Namespace, opened: SplitFiles, steps: dict[str, Finished]) -> dict[str, str]:
    """Fit and write baselines, and return the validation RSUM of each."""
    began = time.perf_counter()
    val_files = opened.pairs["val"]
    rows = len(val_files.split.image_rows), len(val_files.split.text_rows)
    refuse_too_wide(val_files.image_file.width, val_files.texts.width, *rows)
    val = load_pairs(val_files, RAW, RAW, torch.float32)
    moments = Moments.of_captions(caption_chunks(opened.pairs["train"]))
    shared = time.perf_counter() - began
    logger.info("one pass over %d training pairs, %.1f s", len(opened.pairs["train"].split.text_rows), shared)
    found = {}
    for name, step in steps.items():
        began = time.perf_counter()
        best, save = _chosen(name, moments, val, opened.pairs["train"])
        seconds = shared + time.perf_counter() - began
        for text in best.warnings:
            logger.warning("warning: %s: %s", name, text)
        facts = {
            "experiment": name,
            "kind": "baseline",
            "seed": arguments.seed,
            "dataset": arguments.dataset or opened.manifest.dataset,
            "selected": {"split": "val", "RSUM": best.rsum},
            "inputs": asdict(opened.manifest.inputs()),
            "warnings": best.warnings,
        }
        save(step.folder / MODEL, facts=facts)
        _write_settings(step.folder, facts, best.candidate, seconds)
        found[name] = f"{best.rsum:.1f}"
        step.keep(found[name])
        logger.info("%s: val RSUM %s with %s", name, found[name], best.candidate.chosen)
    return found


def _chosen(
    name: str, moments: Moments, val: ResidentPairs, train: PairFiles
) -> tuple[ChosenMaps, Callable[..., None]]:
    """Return the maps that validation chooses, and the function that saves them to a path, with facts.

    The file of the CCA also holds maps for narrower outputs and the axes that whiten rows, which heads start from.
    """
    if name == "cca":
        chosen = choose_canonical_maps(moments, val)
        maps = CanonicalMaps.of(chosen, _axes(moments, train))
        return chosen[None], partial(save_canonical_maps, maps=maps)
    best = choose_maps(name, moments, val)
    return best, partial(save_heads, model=model_of(best.candidate.pair))


def _axes(moments: Moments, train: PairFiles) -> tuple[PrincipalAxes, PrincipalAxes]:
    """Return the axes of the standardised images and texts, by which heads whiten their rows."""
    image, text = pair_statistics(train)
    return (
        PrincipalAxes.of_standardized(moments.image_covariance, image.scale),
        PrincipalAxes.of_standardized(moments.text_covariance, text.scale),
    )


def _write_settings(folder: Path, facts: dict[str, Any], chosen: Candidate, seconds: float) -> None:
    described = {key: facts[key] for key in ("experiment", "kind", "seed")}
    baseline = {"type": facts["experiment"], "chosen": chosen.chosen}
    write_yaml(folder / "resolved_config.yaml", {"format": 1} | described | {"baseline": baseline})
    parameters = sum(value.numel() for value in model_of(chosen.pair).parameters())
    costs = run_facts(torch.device("cpu"), torch.float32, seconds, parameters, [folder / MODEL])
    write_json(folder / "run.json", costs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.baselines", description=__doc__)
    parser.add_argument("--baselines", required=True, nargs="+", choices=sorted(BASELINES), help="which closed forms")
    add_options(parser, "--dataset", "--data-dir", "--split-dir")
    parser.add_argument(
        "--output-dir", required=True, type=Path, help="folder for NAME/seedK of every baseline, results/DATASET"
    )
    parser.add_argument("--seed", type=int, default=0, help="number in the report; nothing here is random (0)")
    return parser


if __name__ == "__main__":
    run(main)

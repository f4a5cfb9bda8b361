"""Fit closed-form baselines, all from one pass over the training pairs; validation chooses their regularisers.

Each is saved like a head, as two linear maps. The file of the CCA is what heads start from; it also has the
axes that whiten their rows.
"""

import argparse
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from frozenalign.closed_forms.canonical_maps import CanonicalMaps, choose_canonical_maps, save_canonical_maps
from frozenalign.closed_forms.choice import ChosenMaps, choose_maps, model_of, refuse_too_wide
from frozenalign.closed_forms.decompositions import PrincipalAxes
from frozenalign.closed_forms.registry import BASELINES
from frozenalign.configuration.arguments import add_options
from frozenalign.configuration.foreign_results import refuse_foreign_results
from frozenalign.data.manifests import SplitFiles, open_split
from frozenalign.data.moments import Moments
from frozenalign.data.pairs import RAW, PairFiles, caption_chunks, load_pairs, pair_statistics
from frozenalign.models.model_file import save_heads
from frozenalign.system.errors import run
from frozenalign.system.files import write_json, write_yaml
from frozenalign.system.fingerprints import code_hash, fingerprint
from frozenalign.system.finished import Finished
from frozenalign.system.locks import only_writer
from frozenalign.system.provenance import run_facts, versions
from frozenalign.system.random_state import refuse_negative_seed

logger = logging.getLogger(__name__)
RESULTS = ("best_model.pt", "resolved_config.yaml", "run.json")


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
        # The CCA has further maps, for narrower outputs.
        chosen = choose_canonical_maps(moments, val) if name == "cca" else {None: choose_maps(name, moments, val)}
        axes = _axes(moments, opened.pairs["train"]) if name == "cca" else None
        seconds = shared + time.perf_counter() - began
        best = chosen[None]
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
        _save(step.folder, facts, chosen, axes, seconds)
        found[name] = f"{best.rsum:.1f}"
        step.keep(found[name])
        logger.info("%s: val RSUM %s with %s", name, found[name], best.candidate.chosen)
    return found


def _axes(moments: Moments, train: PairFiles) -> tuple[PrincipalAxes, PrincipalAxes]:
    """Return the axes of the standardised images and texts, by which heads whiten their rows."""
    image, text = pair_statistics(train)
    return (
        PrincipalAxes.of_standardized(moments.image_covariance, image.scale),
        PrincipalAxes.of_standardized(moments.text_covariance, text.scale),
    )


def _save(
    folder: Path,
    facts: dict[str, Any],
    chosen: dict[int | None, ChosenMaps],
    axes: tuple[PrincipalAxes, PrincipalAxes] | None,
    seconds: float,
) -> None:
    best, name, model_file = chosen[None].candidate, facts["experiment"], folder / "best_model.pt"
    model = model_of(best.pair)
    if name == "cca":
        save_canonical_maps(model_file, CanonicalMaps.of(chosen, axes), facts)
    else:
        save_heads(model_file, model, facts)
    described = {key: facts[key] for key in ("experiment", "kind", "seed")}
    baseline = {"type": name, "chosen": best.chosen}
    write_yaml(folder / "resolved_config.yaml", {"format": 1} | described | {"baseline": baseline})
    parameters = sum(value.numel() for value in model.parameters())
    write_json(folder / "run.json", run_facts(torch.device("cpu"), torch.float32, seconds, parameters, [model_file]))


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

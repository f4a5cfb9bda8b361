"""Write the folder of an exported model: weights, ONNX files, modules of sentence-transformers, and a model card."""

import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.models.model_file import load_heads
from frozenalign.serving.export_folder import CONFIG, SUMS, WEIGHTS, write_model, write_sums
from frozenalign.serving.folding import fold
from frozenalign.serving.model_card import model_card
from frozenalign.serving.model_facts import facts_of_run
from frozenalign.serving.onnx_files import graphs, refuse_without_libraries, write_onnx
from frozenalign.serving.sentence_modules import FOLDER, routes_of, write_modules
from frozenalign.system.errors import UserError
from frozenalign.system.files import write_text

logger = logging.getLogger(__name__)
CARD = "README.md"
# Whoever exports completes the card, so that it is in no list of hashes.
PARTS = (CONFIG, WEIGHTS, SUMS, CARD, "image.onnx", "text.onnx", "pair_scorer.onnx", FOLDER)


def export(folder: Path, path: Path, data_dir: Path | None, split_dir: Path | None, with_onnx: bool = True) -> str:
    """Export the model of a best_model.pt, and return what was written in one line.

    data_dir: folder of the embeddings, whose encoding.json is recorded. split_dir: folder of the split. Earlier parts
    that are not written again are deleted.
    """
    if with_onnx:
        refuse_without_libraries()
    _refuse_other_files(folder)
    trained, facts = load_heads(path)
    known = facts_of_run(path, facts, data_dir, split_dir)
    # Until the last file is there, nothing is taken for a whole folder.
    (folder / SUMS).unlink(missing_ok=True)
    written, found = _write_parts(folder, fold(trained) or trained, trained, known, with_onnx)
    write_text(folder / CARD, model_card(known, trained, written))
    write_sums(folder, written)
    _remove_others(folder, [*written, CARD, SUMS])
    return found


def _write_parts(
    folder: Path, model: DualEncoder, trained: DualEncoder, facts: Mapping[str, Any], with_onnx: bool
) -> tuple[list[str], str]:
    """Write everything but the card, and return the names of the files and what was found."""
    standardisation = "explicit" if model is trained else "folded"
    write_model(folder, model, facts, {"standardisation": standardisation})
    written, differences = [CONFIG, WEIGHTS], {}
    for graph in graphs(model, trained) if with_onnx else []:
        differences[graph.file] = write_onnx(folder, graph)
        written.append(graph.file)
    if routes := routes_of(model, trained):
        written += [f"{FOLDER}/{name}" for name in write_modules(folder / FOLDER, routes)]
    for file, difference in differences.items():
        logger.info("%s differs from PyTorch by %.1g at most", file, difference)
    how = f"ONNX within {max(differences.values()):.1g} of PyTorch" if differences else "no ONNX files"
    return written, f"standardisation {standardisation}, {how}"


def _refuse_other_files(folder: Path) -> None:
    """Refuse a folder that holds files but no export, whose README.md would be replaced."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    # Hidden ones are locks, unfinished files, and what Snakemake notes.
    others = {name for name in names if not name.startswith(".")}
    if others and CONFIG not in others:
        raise UserError(f"{folder} holds {min(others)} but no export: choose an empty or new folder as --output-dir")


def _remove_others(folder: Path, written: Iterable[str]) -> None:
    """Delete the parts of an earlier export that this one has not written."""
    kept = {Path(name).parts[0] for name in written}
    for name in set(PARTS) - kept:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

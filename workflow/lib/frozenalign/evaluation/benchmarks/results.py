"""Evaluate a model on the evaluation sets of a run, and write sets.json."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from frozenalign.configuration.foreign_results import SETS_FILE
from frozenalign.configuration.result_files import read_result
from frozenalign.data.benchmarks.items import ROWS_FILE
from frozenalign.data.benchmarks.registry import positive_files
from frozenalign.data.encoding import ENCODING
from frozenalign.data.made_files import ROW_FILES
from frozenalign.evaluation.benchmarks.registry import KINDS, AskedSet
from frozenalign.evaluation.doubts import seen_by
from frozenalign.evaluation.members import Member
from frozenalign.evaluation.protocol import Protocol
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.errors import UserError, quoted
from frozenalign.system.files import file_hash, write_json

logger = logging.getLogger(__name__)
FORMAT = 1
KEYS = ("kind", "dir", "positives")


def refuse_wrong_sets(sets: Any) -> dict[str, dict[str, str]]:
    """Return evaluation sets by name, each with its kind and its folder or positives; others are a UserError."""
    if not isinstance(sets, dict) or not sets:
        raise UserError(f'--sets {quoted(sets)}: write a JSON object of sets by name, {{"crepe": {{"kind": …}}}}')
    for name, each in sets.items():
        if not isinstance(each, dict) or each.get("kind") not in KINDS or not each.keys() <= set(KEYS):
            raise UserError(
                f"--sets: {name} is {quoted(each)}: write {', '.join(KEYS)}, a kind of {', '.join(sorted(KINDS))}"
            )
        if not all(isinstance(value, str) for value in each.values()) or not {"dir", "positives"} & each.keys():
            raise UserError(f"--sets: {name} is {quoted(each)}: give the folder of its embeddings as dir")
    return sets


def files_of_sets(sets: Mapping[str, Mapping[str, str]]) -> list[Path]:
    """Return every file that decides the results on evaluation sets, missing ones included."""
    found: list[Path] = []
    for each in sets.values():
        if "dir" in each:
            found += [Path(each["dir"]) / name for name in (*ROW_FILES, ROWS_FILE, ENCODING)]
        if "positives" in each:
            found += positive_files(each["positives"])
    return found


def write_sets(
    output: Path,
    model: DualEncoder,
    members: Sequence[Member],
    protocol: Protocol,
    sets: Mapping[str, Mapping[str, str]],
    device: torch.device,
) -> str:
    """Evaluate a model on each set, write sets.json, and return what was found.

    members: the trained models; one that may have seen the rows of the protocol's split is a UserError.
    """
    opened = protocol.open()
    doubts = [text for member in members for text in seen_by(member, opened.manifest, protocol)]
    encoding = read_result(protocol.split_dir / "manifest.json")["encoding"]
    train = opened.pairs["train"]
    model.to(device)
    found = {}
    for name, each in sets.items():
        folder = Path(each["dir"]) if "dir" in each else None
        asked = AskedSet(name, each["kind"], folder, each.get("positives"), protocol, encoding, train)
        measured = KINDS[each["kind"]](asked, model, device).document()
        measured["warnings"] = list(dict.fromkeys([*measured["warnings"], *doubts]))
        found[name] = {"kind": each["kind"], "source": _source(each, protocol), **measured}
        _log(name, found[name])
    models = [file_hash(member.path) for member in members]
    write_json(output / SETS_FILE, {"format": FORMAT, "models": models, "sets": found})
    return ", ".join(f"{name} {_first(each)}" for name, each in found.items())


def _source(each: Mapping[str, str], protocol: Protocol) -> str:
    """Return in words which rows were evaluated, and by which positives."""
    rows = each.get("dir", f"{protocol.split} split")
    return f"{rows}, positives of {each['positives']}" if "positives" in each else rows


def _first(found: Mapping[str, Any]) -> str:
    name, value = next(iter(found["metrics"].items()))
    return f"{name} {value:.1f}"


def _log(name: str, found: Mapping[str, Any]) -> None:
    for text in found["warnings"]:
        logger.warning("warning: %s: %s", name, text)
    for metric, value in found["metrics"].items():
        ends = found["intervals"].get(metric)
        shown = f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else ""
        logger.info("%s: %s %.2f%s, chance %.2f", name, metric, value, shown, found["chance"][metric])

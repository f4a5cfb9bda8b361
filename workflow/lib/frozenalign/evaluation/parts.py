"""Files in which the jobs that divide an evaluation leave their counts, and the sum of those files.

Every part counts with the scores of its own matches. The sum is that of one process only if those scores are the same
in all parts, bit for bit, so parts from unlike devices are refused.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frozenalign.configuration.foreign_results import COUNTS_FILE
from frozenalign.configuration.result_files import RUN_AGAIN, checked_facts, refuse_wrong_numbers
from frozenalign.evaluation.retrieval import Counts, Retrieval
from frozenalign.evaluation.shares import Share
from frozenalign.system.devices import device_name
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_arrays, write_arrays

FORMAT = 1
FACTS = "facts_of_counts"


def write_counts(
    folder: Path, evaluated: Mapping[str, Any], share: Share, device: torch.device, counts: Mapping[str, Counts]
) -> None:
    """Write the counts of a share, by set, with what they were taken of and how they were computed.

    evaluated: by description, text that is the same for all parts of one evaluation.
    """
    facts = {
        "format": FORMAT,
        "part": share.part,
        "parts": share.parts,
        "evaluated": dict(evaluated),
        "device": device.type,
        "device_name": device_name(device),
        "dtype": "float32",
        "sets": {name: {"tiles": found.tiles, "matches": found.matches} for name, found in counts.items()},
    }
    arrays = {f"{name}/{key}": array for name, found in counts.items() for key, array in found.arrays.items()}
    write_arrays(folder / COUNTS_FILE, **{FACTS: np.array(json.dumps(facts))}, **arrays)


def summed_counts(paths: Sequence[Path], evaluated: Mapping[str, Any], device: torch.device) -> dict[str, Counts]:
    """Return the counts of all parts of an evaluation, added up, by set; device: of the rest of the evaluation.

    A missing part, one of another evaluation, and parts that were computed in different ways are a UserError.
    """
    contents = [read_arrays(path) for path in paths]
    facts = [_facts(path, arrays) for path, arrays in zip(paths, contents, strict=True)]
    for path, found in zip(paths, facts, strict=True):
        _refuse_other(path, found, evaluated)
        _refuse_unlike(path, found, paths[0], facts[0])
        if found["device"] != device.type:
            raise UserError(
                f"{path} was computed on {found['device']}, and the rest would be on {device.type}, where scores "
                f"differ in their last digits: set `device: {found['device']}`, or delete all parts and run them again"
            )
    if sorted(found["part"] for found in facts) != list(range(1, facts[0]["parts"] + 1)):
        numbers = ", ".join(str(found["part"]) for found in facts)
        raise UserError(f"--parts: found {numbers} of {facts[0]['parts']} parts: give the file of every part once")
    summed = {}
    for name, how in facts[0]["sets"].items():
        keys = [key.removeprefix(f"{name}/") for key in contents[0] if key.startswith(f"{name}/")]
        arrays = {key: _sum(paths, contents, f"{name}/{key}") for key in keys}
        summed[name] = Counts(arrays, how["tiles"], how["matches"])
    return summed


def checked(counts: Counts, retrieval: Retrieval, path: Path) -> Counts:
    """Return summed counts if comparing the pairs of a retrieval can give them; path: of one of the parts."""
    refuse_wrong_numbers(path, counts.arrays, retrieval.bounds())
    return counts


def _facts(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    try:
        facts = json.loads(str(arrays[FACTS]))
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} holds no counts of an evaluation: give a {COUNTS_FILE} of evaluate_part") from error
    return checked_facts(facts, path, COUNTS_FILE)


def _refuse_other(path: Path, found: Mapping[str, Any], evaluated: Mapping[str, Any]) -> None:
    """Raise UserError if a part was taken of another evaluation, with what differs."""
    names = dict.fromkeys([*evaluated, *found["evaluated"]])
    if other := [name for name in names if evaluated.get(name) != found["evaluated"].get(name)]:
        raise UserError(f"{path} was counted with another {', another '.join(other)}: {RUN_AGAIN}")


def _refuse_unlike(path: Path, found: Mapping[str, Any], first: Path, expected: Mapping[str, Any]) -> None:
    """Raise UserError if two parts do not belong together, or if the scores that they counted may differ."""
    if found["parts"] != expected["parts"] or set(found["sets"]) != set(expected["sets"]):
        raise UserError(
            f"{path} is one of {found['parts']} parts, {first} one of {expected['parts']}: give the files of one "
            "division"
        )
    if any(how["tiles"] != expected["sets"][name]["tiles"] for name, how in found["sets"].items()):
        raise UserError(
            f"{path} and {first} were counted in tiles of different sizes because memory ran out in one of them: "
            "delete both and run the parts again with more memory"
        )
    kinds = [[facts[key] for key in ("device", "dtype", "sets")] for facts in (found, expected)]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"{path} was computed on {found['device']} ({found['device_name']}) and {first} on {expected['device']} "
            f"({expected['device_name']}), whose scores differ in their last digits: delete both and run all parts on "
            "devices of one kind"
        )


def _sum(paths: Sequence[Path], contents: Sequence[Mapping[str, np.ndarray]], key: str) -> np.ndarray:
    expected = contents[0][key].shape
    for path, arrays in zip(paths, contents, strict=True):
        if key not in arrays or arrays[key].dtype.kind not in "iu" or arrays[key].shape != expected:
            raise UserError(f"{path}: {key} does not hold {expected} whole numbers: {RUN_AGAIN}")
    return sum(arrays[key] for arrays in contents)

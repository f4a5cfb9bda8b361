"""Command-line options that several scripts share."""

import json
import re
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from frozenalign.system.errors import UserError, quoted


def _limit(text: str) -> int | None:
    """Parse `auto` or a number of gigabytes; return bytes."""
    return None if text == "auto" else int(1e9 * float(text))


def _columns(text: str) -> dict[str, str]:
    """Parse a JSON object of names."""
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise UserError(f'--columns {quoted(text)}: write a JSON object of names, {{"caption": "comment"}}')
    return names


def _changes(text: str) -> dict[str, Any]:
    """Parse a JSON object of keys of an encoder."""
    try:
        changes = json.loads(text)
    except (ValueError, RecursionError):
        changes = None
    if not isinstance(changes, dict):
        raise UserError(f'--changes {quoted(text)}: write a JSON object of keys, {{"layer": 4}}')
    return changes


def _number_and_count(text: str) -> tuple[int, int]:
    """Parse `1-of-3`."""
    found = re.fullmatch(r"([1-9]\d{0,5})-of-([1-9]\d{0,5})", text)
    if not found or int(found[1]) > int(found[2]):
        raise UserError(f"--job {quoted(text)}: write a number from 1 and how many there are, as in 1-of-3")
    return int(found[1]), int(found[2])


CAPTION_RULES = ("all", "first5")
HUBNESS_WISHES = ("auto", "on", "off")

OPTIONS: dict[str, dict[str, Any]] = {
    "--study": {"required": True, "type": Path, "help": "study file, config/tuning/NAME.yaml"},
    "--name": {"help": "name of the study (the file's name)"},
    "--dataset": {"default": "", "help": "name of the data set, for the report (that of the split)"},
    "--data-dir": {"required": True, "type": Path, "help": "folder with the train2017_* files"},
    "--split-dir": {"required": True, "type": Path, "help": "folder with the split's index files"},
    "--model": {"type": Path, "help": "best_model.pt of a head or a baseline"},
    "--models": {"nargs": "+", "type": Path, "help": "best_model.pt of every member of an ensemble"},
    "--split": {"default": "test", "choices": ["test", "val"], "help": "split to evaluate on (test)"},
    "--captions-rule": {
        "default": "all",
        "choices": CAPTION_RULES,
        "help": "captions of an image that count: all, or the first five (all)",
    },
    "--start": {
        "type": Path,
        "help": "best_model.pt of the baseline cca, for heads that start from it or whiten their rows (found here)",
    },
    "--parts": {
        "nargs": "+",
        "default": [],
        "type": Path,
        "help": "counts.npz of every evaluate_part; without them, everything is counted here",
    },
    "--device": {"default": "auto", "help": "where to compute: auto, cpu, cuda, cuda:N, mps (auto)"},
    "--hubness": {
        "default": "auto",
        "choices": HUBNESS_WISHES,
        "help": "lower what is near to all queries: on, off, or where the evaluation says that it helps (auto)",
    },
    "--sets": {
        "nargs": "+",
        "required": True,
        "type": Path,
        "help": "folders of the results of the encodings, results/DATASET, or @FILE, one a line",
    },
    "--encoder": {"required": True, "type": Path, "help": "file of the encoder, config/encoders/NAME.yaml"},
    "--encoding": {"help": "name of the encoding in what is recorded (the file's name)"},
    "--changes": {
        "default": {},
        "type": _changes,
        "metavar": "JSON",
        "help": 'keys of the encoder\'s file that this encoding changes, as a JSON object, such as {"layer": 4}',
    },
    "--captions": {"required": True, "nargs": "+", "type": Path, "help": "one file of captions, or several"},
    "--columns": {"type": _columns, "help": "names of the columns of a table of captions, as a JSON object"},
    "--job": {
        "default": (1, 1),
        "type": _number_and_count,
        "metavar": "K-of-N",
        "help": "which of how many jobs that divide the work this is (1-of-1)",
    },
    "--memory": {"type": _limit, "metavar": "GB", "help": "the most memory for training rows, or auto (auto)"},
    "--precision": {"default": "auto", "choices": ["auto", "fp32", "bf16"], "help": "matrix products (auto)"},
}


def add_options(parser: ArgumentParser, *names: str) -> None:
    """Add options of `OPTIONS` to a parser."""
    for name in names:
        parser.add_argument(name, **OPTIONS[name])


def add_one_of(parser: ArgumentParser, *names: str) -> None:
    """Add options of `OPTIONS` of which exactly one is given."""
    group = parser.add_mutually_exclusive_group(required=True)
    for name in names:
        group.add_argument(name, **OPTIONS[name])

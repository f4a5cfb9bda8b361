"""Command-line options that several scripts share."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any


def _limit(text: str) -> int | None:
    """Parse `auto` or a number of gigabytes; return bytes."""
    return None if text == "auto" else int(1e9 * float(text))


OPTIONS: dict[str, dict[str, Any]] = {
    "--study": {"required": True, "type": Path, "help": "study file, config/tuning/NAME.yaml"},
    "--name": {"help": "name of the study (the file's name)"},
    "--dataset": {"default": "", "help": "name of the data set, for the report"},
    "--data-dir": {"required": True, "type": Path, "help": "folder with the train2017_* files"},
    "--split-dir": {"required": True, "type": Path, "help": "folder with the split's index files"},
    "--split": {"default": "test", "choices": ["test", "val"], "help": "split to evaluate on (test)"},
    "--start": {"type": Path, "help": "best_model.pt of the baseline cca, for heads that start from it (fitted here)"},
    "--parts": {
        "nargs": "+",
        "default": [],
        "type": Path,
        "help": "counts.npz of every evaluate_part; without them, everything is counted here",
    },
    "--device": {"default": "auto", "help": "where to compute: auto, cpu, cuda, cuda:N, mps (auto)"},
    "--memory": {"type": _limit, "metavar": "GB", "help": "the most memory for training rows, or auto (auto)"},
    "--precision": {"default": "auto", "choices": ["auto", "fp32", "bf16"], "help": "matrix products (auto)"},
}


def add_options(parser: ArgumentParser, *names: str) -> None:
    """Add options of `OPTIONS` to a parser."""
    for name in names:
        parser.add_argument(name, **OPTIONS[name])

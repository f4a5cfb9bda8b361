"""Command-line options that several scripts share."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    "--study": {"required": True, "type": Path, "help": "study file, config/tuning/NAME.yaml"},
    "--name": {"help": "name of the study (the file's name)"},
    "--dataset": {"default": "", "help": "name of the data set, for the report"},
    "--data-dir": {"required": True, "type": Path, "help": "folder with the train2017_* files"},
    "--split-dir": {"required": True, "type": Path, "help": "folder with the split's index files"},
    "--split": {"default": "test", "choices": ["test", "val"], "help": "split to evaluate on (test)"},
    "--start": {"type": Path, "help": "best_model.pt of the baseline cca, for heads that start from it (fitted here)"},
    "--device": {"default": "auto", "choices": ["auto", "cpu", "cuda", "mps"], "help": "where to compute (auto)"},
    "--precision": {"default": "auto", "choices": ["auto", "fp32", "bf16"], "help": "matrix products (auto)"},
}


def add_options(parser: ArgumentParser, *names: str) -> None:
    """Add options of `OPTIONS` to a parser."""
    for name in names:
        parser.add_argument(name, **OPTIONS[name])

"""Copy photographs that installed packages ship into a folder, with five captions for each: `make demo-photos`."""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

from frozenalign.demo.photographs import CAPTIONS, photographs
from frozenalign.system.errors import UserError, run
from frozenalign.system.files import write_bytes

PICTURES = "images"


def main(argv: Sequence[str] | None = None) -> None:
    """Write images/NAME of every photograph, and captions.csv."""
    folder = _parser().parse_args(argv).output_dir
    with CAPTIONS.open(encoding="utf-8", newline="") as lines:
        names = list(dict.fromkeys(row["image"] for row in csv.DictReader(lines)))
    files = {f"{PICTURES}/{name}": path for name, path in photographs(names).items()}
    for name, path in (files | {CAPTIONS.with_stem("captions").name: CAPTIONS}).items():
        _copy(path, folder / name)
    print(f"found: {len(names)} photographs in {folder}")


def _copy(path: Path, target: Path) -> None:
    """Copy a file; one that is there already and is another one is refused."""
    content = path.read_bytes()
    if target.exists() and target.read_bytes() != content:
        raise UserError(f"{target} is another file, which would be replaced: take another --output-dir")
    write_bytes(target, content)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.demo_photos", description=__doc__)
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the photographs and captions.csv")
    return parser


if __name__ == "__main__":
    run(main)

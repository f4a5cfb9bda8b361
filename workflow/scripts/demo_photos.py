"""Cut photographs that installed packages ship into views and caption them, as a set to encode: `make demo-photos`."""

import argparse
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from frozenalign.demo.photographs import View, photographs, views_of
from frozenalign.system.errors import run
from frozenalign.system.files import write_where_none_differs

PICTURES, CAPTIONS, ASSIGNMENTS = "images", "captions.csv", "assignments.json"


def main(argv: Sequence[str] | None = None) -> None:
    """Write images/*.jpg, captions.csv and assignments.json."""
    folder = _parser().parse_args(argv).output_dir
    generator = np.random.default_rng(0)
    views = [view for name, captions in photographs().items() for view in views_of(name, captions, generator)]
    files = {f"{PICTURES}/{view.name}": _jpeg(view) for view in views}
    files |= {CAPTIONS: _table(views), ASSIGNMENTS: _assignments(views)}
    write_where_none_differs(folder, files)
    print(f"found: {len(views)} views of {len(photographs())} photographs in {folder}")


def _jpeg(view: View) -> bytes:
    stream = io.BytesIO()
    view.picture.save(stream, format="JPEG", quality=90)
    return stream.getvalue()


def _table(views: Sequence[View]) -> bytes:
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(["image", "caption"])
    rows.writerows([view.name, caption] for view in views for caption in view.captions)
    return stream.getvalue().encode()


def _assignments(views: Sequence[View]) -> bytes:
    return (json.dumps({view.name: view.split for view in views}, indent=1) + "\n").encode()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.demo_photos", description=__doc__)
    parser.add_argument(
        "--output-dir", required=True, type=Path, help="folder for the views, captions.csv and assignments.json"
    )
    return parser


if __name__ == "__main__":
    run(main)

"""Draw scenes that the demo does not show, as small benchmarks for its heads: `make demo-benchmarks`."""

import argparse
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from frozenalign.demo.benchmarks import hard_negatives, kinds_of, same_words
from frozenalign.demo.samples import BENCHMARKS, describe_scenes, sample_scenes
from frozenalign.demo.scenes import Scene, draw_scene
from frozenalign.system.errors import run
from frozenalign.system.files import write_where_none_differs

SCENES, CAPTIONS_A_SCENE = 600, 5
# The sizes that config/config.yaml asks of the demo.
DEMO_IMAGES, DEMO_CAPTIONS = 3000, 5


def main(argv: Sequence[str] | None = None) -> None:
    """Write images/*.png, captions.csv, hard_negatives.json, classes.json and positives.json."""
    folder = _parser().parse_args(argv).output_dir
    drawn = sample_scenes(0, BENCHMARKS, SCENES)
    scenes = {f"{number:06d}.png": scene for number, scene in enumerate(drawn, 1)}
    files = {f"images/{name}": _png(scene) for name, scene in scenes.items()}
    files |= {
        "captions.csv": _table(scenes),
        "hard_negatives.json": _json(hard_negatives(scenes, 0)),
        "classes.json": _json(kinds_of(scenes)),
        "positives.json": _json(same_words(0, DEMO_IMAGES, DEMO_CAPTIONS)),
    }
    write_where_none_differs(folder, files)
    print(f"found: {len(scenes)} scenes in {folder}")


def _png(scene: Scene) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(draw_scene(scene)).save(stream, format="PNG")
    return stream.getvalue()


def _table(scenes: Mapping[str, Scene]) -> bytes:
    texts = describe_scenes(0, BENCHMARKS, list(scenes.values()), CAPTIONS_A_SCENE)
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(["image", "caption"])
    rows.writerows(
        [name, texts[CAPTIONS_A_SCENE * i + k]] for i, name in enumerate(scenes) for k in range(CAPTIONS_A_SCENE)
    )
    return stream.getvalue().encode()


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.demo_benchmarks", description=__doc__)
    parser.add_argument(
        "--output-dir", required=True, type=Path, help="folder for the pictures and the benchmarks' files"
    )
    return parser


if __name__ == "__main__":
    run(main)

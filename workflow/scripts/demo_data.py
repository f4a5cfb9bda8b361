"""Generate the demo data: pictures of coloured shapes, with captions in the form of COCO's."""

import argparse
import io
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from frozenalign.demo.made_files import CAPTIONS, DEMO, PICTURES
from frozenalign.demo.samples import SHOWN, describe_scenes, sample_scenes
from frozenalign.demo.scenes import CAPTION_STYLES, draw_scene
from frozenalign.system.errors import UserError, run
from frozenalign.system.locks import only_writer
from frozenalign.system.random_state import refuse_negative_seed

MINIMUM_IMAGES = 10
REMEDY = "take another --output-dir; if they are demo data of an earlier version, delete the folder"


def main(argv: Sequence[str] | None = None) -> None:
    """Write images/*.png, captions.json and a record of these."""
    began = time.perf_counter()
    arguments = _parser().parse_args(argv)
    _refuse_impossible(arguments)
    DEMO.refuse_foreign(arguments.output_dir, REMEDY)
    with only_writer(arguments.output_dir):
        DEMO.write(arguments.output_dir, _demo_files(arguments), REMEDY)
    print(f"written to {arguments.output_dir} in {time.perf_counter() - began:.1f} s")
    print(f"found: {arguments.images} pictures with {arguments.images * arguments.captions} captions")


def _demo_files(arguments: argparse.Namespace) -> dict[str, bytes]:
    """Return the bytes of every file by its name below the folder."""
    scenes = sample_scenes(arguments.seed, SHOWN, arguments.images)
    texts = describe_scenes(arguments.seed, SHOWN, scenes, arguments.captions)
    names = {number: f"{number:06d}.png" for number in range(1, arguments.images + 1)}
    drawn = {f"{PICTURES}/{name}": _png(draw_scene(scene)) for name, scene in zip(names.values(), scenes, strict=True)}
    return drawn | {CAPTIONS: _coco(names, texts)}


def _coco(names: Mapping[int, str], texts: Sequence[str]) -> bytes:
    """Return captions, picture after picture, in the form of COCO's captions_*.json."""
    image_ids = np.repeat(list(names), len(texts) // len(names)).tolist()
    pairs = zip(image_ids, texts, strict=True)
    content = {
        "images": [{"id": image_id, "file_name": name} for image_id, name in names.items()],
        "annotations": [
            {"id": number, "image_id": image_id, "caption": text} for number, (image_id, text) in enumerate(pairs, 1)
        ],
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def _refuse_impossible(arguments: argparse.Namespace) -> None:
    if arguments.images < MINIMUM_IMAGES:
        raise UserError(f"--images is {arguments.images}: ask for at least {MINIMUM_IMAGES} pictures")
    if not 1 <= arguments.captions <= len(CAPTION_STYLES):
        raise UserError(f"--captions is {arguments.captions}: a picture can have 1 to {len(CAPTION_STYLES)} captions")
    refuse_negative_seed(arguments.seed)


def _png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return stream.getvalue()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.demo_data", description=__doc__)
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the pictures and captions")
    parser.add_argument("--images", type=int, default=3000, help="number of pictures (3000)")
    parser.add_argument("--captions", type=int, default=5, help=f"captions a picture, 1 to {len(CAPTION_STYLES)} (5)")
    parser.add_argument("--seed", type=int, default=0, help="seed of scenes and captions (0)")
    return parser


if __name__ == "__main__":
    run(main)

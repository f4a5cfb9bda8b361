"""Generate the demo data: pictures of coloured shapes, captions, and the embeddings of two small frozen encoders."""

import argparse
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from frozenalign.demo.encoders import fit_encoders
from frozenalign.demo.made_files import PICTURES, ROW_FILES, refuse_foreign, write_made
from frozenalign.demo.scenes import CAPTION_STYLES, draw_scene, sample_scene, write_captions
from frozenalign.system.errors import UserError, run
from frozenalign.system.locks import only_writer
from frozenalign.system.random_state import refuse_negative_seed

# Encoders are fitted on scenes of their own: had they seen the demo's, every head would look better than it is.
ENCODER_SCENES = 1200
MINIMUM_IMAGES = 10
REMEDY = "take another --output-dir; if they are demo data of an earlier version, delete the folder"


def main(argv: Sequence[str] | None = None) -> None:
    """Write train2017_{image_embeddings.pt,text_embeddings.pt,metadata.json}, images/*.png and a record of these."""
    began = time.perf_counter()
    arguments = _parser().parse_args(argv)
    _refuse_impossible(arguments)
    refuse_foreign(arguments.output_dir, REMEDY)
    with only_writer(arguments.output_dir):
        write_made(arguments.output_dir, _demo_files(arguments), REMEDY)
    print(f"written to {arguments.output_dir} in {time.perf_counter() - began:.1f} s")
    print(f"found: {arguments.images} pictures with {arguments.images * arguments.captions} captions")


def _demo_files(arguments: argparse.Namespace) -> dict[str, bytes]:
    """Return the bytes of every file by its name below the folder."""
    shown, unseen = np.random.SeedSequence(arguments.seed).spawn(2)
    image_encoder, text_encoder = fit_encoders(*_scenes(unseen, ENCODER_SCENES, len(CAPTION_STYLES)), arguments.seed)
    pictures, captions = _scenes(shown, arguments.images, arguments.captions)
    names = {image_id: f"{PICTURES}/{image_id:06d}.png" for image_id in range(1, arguments.images + 1)}
    image_ids = [image_id for image_id in names for _ in range(arguments.captions)]
    metadata = {"image_ids": image_ids, "captions": captions, "image_files": names}
    rows = (
        _saved(np.repeat(image_encoder.encode(pictures), arguments.captions, axis=0)),
        _saved(text_encoder.encode(captions)),
        (json.dumps(metadata, indent=1) + "\n").encode(),
    )
    drawn = {name: _png(picture) for name, picture in zip(names.values(), pictures, strict=True)}
    return drawn | dict(zip(ROW_FILES, rows, strict=True))


def _refuse_impossible(arguments: argparse.Namespace) -> None:
    if arguments.images < MINIMUM_IMAGES:
        raise UserError(f"--images is {arguments.images}: ask for at least {MINIMUM_IMAGES} pictures")
    if not 1 <= arguments.captions <= len(CAPTION_STYLES):
        raise UserError(f"--captions is {arguments.captions}: a picture can have 1 to {len(CAPTION_STYLES)} captions")
    refuse_negative_seed(arguments.seed)


def _scenes(seeds: np.random.SeedSequence, count: int, captions: int) -> tuple[np.ndarray, list[str]]:
    """Return pictures (count, 64, 64, 3) and their captions (count * captions), picture after picture."""
    sampling, wording = (np.random.default_rng(seed) for seed in seeds.spawn(2))
    scenes = [sample_scene(sampling) for _ in range(count)]
    texts = [text for scene in scenes for text in write_captions(scene, captions, wording)]
    return np.stack([draw_scene(scene) for scene in scenes]), texts


def _png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return stream.getvalue()


def _saved(rows: np.ndarray) -> bytes:
    """Return rows (N, D) as the file of one plain tensor."""
    # Given a path, torch.save puts its name into the archive; given a stream, bytes repeat.
    stream = io.BytesIO()
    torch.save(torch.from_numpy(np.ascontiguousarray(rows)), stream)
    return stream.getvalue()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.demo_data", description=__doc__)
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the embeddings and pictures")
    parser.add_argument("--images", type=int, default=3000, help="number of pictures (3000)")
    parser.add_argument("--captions", type=int, default=5, help=f"captions a picture, 1 to {len(CAPTION_STYLES)} (5)")
    parser.add_argument("--seed", type=int, default=0, help="seed of scenes, captions and encoders (0)")
    return parser


if __name__ == "__main__":
    run(main)

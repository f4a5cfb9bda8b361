"""Generate the demo data: pictures of coloured shapes, captions, and the embeddings of two small frozen encoders."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from workflow.lib.demo_encoders import fit_encoders
from workflow.lib.embeddings import EmbeddingFiles
from workflow.lib.errors import UserError, run
from workflow.lib.files import replacing, write_json
from workflow.lib.locks import only_writer
from workflow.lib.scenes import CAPTION_STYLES, draw_scene, sample_scene, write_captions

# Encoders are fitted on scenes of their own: had they seen the demo's, every head would look better than it is.
ENCODER_SCENES = 1200
MINIMUM_IMAGES = 10


def main(argv: Sequence[str] | None = None) -> None:
    """Write train2017_{image_embeddings.pt,text_embeddings.pt,metadata.json} and images/*.png."""
    began = time.perf_counter()
    arguments = _parser().parse_args(argv)
    _refuse_impossible(arguments)
    with only_writer(arguments.output_dir):
        _write_demo(arguments)
    made = f"{arguments.images} pictures with {arguments.images * arguments.captions} captions"
    print(f"{made} written to {arguments.output_dir} in {time.perf_counter() - began:.1f} s")


def _write_demo(arguments: argparse.Namespace) -> None:
    shown, unseen = np.random.SeedSequence(arguments.seed).spawn(2)
    image_encoder, text_encoder = fit_encoders(*_scenes(unseen, ENCODER_SCENES, len(CAPTION_STYLES)), arguments.seed)
    pictures, captions = _scenes(shown, arguments.images, arguments.captions)
    names = {image_id: f"images/{image_id:06d}.png" for image_id in range(1, arguments.images + 1)}
    for picture, name in zip(pictures, names.values(), strict=True):
        with replacing(arguments.output_dir / name) as temporary:
            Image.fromarray(picture).save(temporary)
    files = EmbeddingFiles.of(arguments.output_dir, "train2017")
    _save_rows(files.images, np.repeat(image_encoder.encode(pictures), arguments.captions, axis=0))
    _save_rows(files.texts, text_encoder.encode(captions))
    image_ids = [image_id for image_id in names for _ in range(arguments.captions)]
    write_json(files.metadata, {"image_ids": image_ids, "captions": captions, "image_files": names})


def _refuse_impossible(arguments: argparse.Namespace) -> None:
    if arguments.images < MINIMUM_IMAGES:
        raise UserError(f"--images is {arguments.images}: ask for at least {MINIMUM_IMAGES} pictures")
    if not 1 <= arguments.captions <= len(CAPTION_STYLES):
        raise UserError(f"--captions is {arguments.captions}: a picture can have 1 to {len(CAPTION_STYLES)} captions")
    if arguments.seed < 0:
        raise UserError(f"--seed is {arguments.seed}: take 0 or a larger whole number")


def _scenes(seeds: np.random.SeedSequence, count: int, captions: int) -> tuple[np.ndarray, list[str]]:
    """Return pictures (count, 64, 64, 3) and their captions (count * captions), picture after picture."""
    sampling, wording = (np.random.default_rng(seed) for seed in seeds.spawn(2))
    scenes = [sample_scene(sampling) for _ in range(count)]
    texts = [text for scene in scenes for text in write_captions(scene, captions, wording)]
    return np.stack([draw_scene(scene) for scene in scenes]), texts


def _save_rows(path: Path, rows: np.ndarray) -> None:
    """Write rows (N, D) as one plain tensor, atomically."""
    # Given a path, torch.save puts its (temporary, random) name into the archive; given a stream, bytes repeat.
    with replacing(path, needed=rows.nbytes) as temporary, temporary.open("wb") as stream:
        torch.save(torch.from_numpy(np.ascontiguousarray(rows)), stream)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.scripts.demo_data", description=__doc__)
    parser.add_argument("--output-dir", required=True, type=Path, help="folder for the embeddings and pictures")
    parser.add_argument("--images", type=int, default=3000, help="number of pictures (3000)")
    parser.add_argument("--captions", type=int, default=5, help=f"captions a picture, 1 to {len(CAPTION_STYLES)} (5)")
    parser.add_argument("--seed", type=int, default=0, help="seed of scenes, captions and encoders (0)")
    return parser


if __name__ == "__main__":
    run(main)

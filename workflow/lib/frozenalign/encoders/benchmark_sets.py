"""An evaluation set, encoded: its embeddings with the document that says what the rows mean, and encoding.json."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frozenalign.data.benchmarks.items import ROWS_FILE, BenchmarkItems
from frozenalign.data.encoding import ENCODING
from frozenalign.data.made_files import ROW_FILES, Places
from frozenalign.encoders.job import Job, encode_share
from frozenalign.encoders.merging import Encoded, gathered, write_rows
from frozenalign.encoders.pictures import STOP, Pictures
from frozenalign.encoders.record import encoding_record, json_text
from frozenalign.encoders.settings import load_encoder
from frozenalign.encoders.texts import Texts
from frozenalign.system.files import file_hash, replacing

MADE = Places("encode_evaluation_set", (*ROW_FILES, ROWS_FILE, ENCODING))
REMEDY = "move them away, or choose another folder"
SHARDS = "shards"


def encode_items(
    items: BenchmarkItems, pictures: Path, encoders: tuple[Path, Path], device: torch.device, folder: Path
) -> tuple[Encoded, Encoded]:
    """Encode the pictures and texts of an evaluation set, by the files of two encoders; a killed encoding goes on.

    A picture that cannot be read stops it: a benchmark without it is another benchmark.
    """
    sources = (
        Pictures(pictures, list(items.pictures), list(items.pictures.values()), STOP),
        Texts(items.texts),
    )
    found = []
    for source, encoder, modality in zip(sources, encoders, ("image", "text"), strict=True):
        job = Job(folder / SHARDS / f"{modality}s")
        encode_share(source, load_encoder(encoder), modality, device, job)
        found.append(gathered([job.path], len(source)))
    return found[0], found[1]


def write_benchmark(folder: Path, items: BenchmarkItems, images: Encoded, texts: Encoded) -> dict[str, Any]:
    """Write the files of an encoded evaluation set, and return the content of encoding.json."""
    names = (*ROW_FILES[:2], items.name)
    with MADE.replaced(folder, REMEDY) as begin, ExitStack() as written:
        paths = {name: written.enter_context(replacing(folder / name)) for name in (*names, ENCODING)}
        for name, encoded in zip(names, (images, texts), strict=False):
            write_rows(paths[name], encoded, np.ones(encoded.rows, bool))
        paths[items.name].write_text(json_text(items.meaning), encoding="utf-8")
        hashes = {name: file_hash(paths[name]) for name in names}
        record = encoding_record(images, texts, items.texts, len(items.texts), hashes)
        paths[ENCODING].write_text(json_text(record), encoding="utf-8")
        begin(hashes | {ENCODING: file_hash(paths[ENCODING])})
    return record

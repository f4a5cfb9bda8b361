"""Hard negatives: is an image nearer to its caption than to one that is almost the same and wrong?"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.benchmarks.folder import BenchmarkRows, benchmark_rows
from frozenalign.evaluation.benchmarks.registry import AskedSet, register_evaluation_set
from frozenalign.evaluation.benchmarks.result import Measured, percentages
from frozenalign.evaluation.projections import map_rows
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.errors import UserError, quoted

PARTS = ("image", "caption", "negative")
ACCURACY = "accuracy"


@register_evaluation_set("hard_negatives")
def hard_negatives(asked: AskedSet, model: DualEncoder, device: torch.device) -> Measured:
    """Share of rows whose image is nearer to its caption than to the negative; a tie is wrong, chance is 50 %."""
    rows = benchmark_rows(asked.folder, asked.kind)
    doubts = asked.doubts(rows.images, rows.texts, rows.hashes, np.arange(rows.images.rows))
    image, caption, negative = _columns(rows)
    images = map_rows(model.encode_images, rows.images, np.arange(rows.images.rows), device)
    texts = map_rows(model.encode_texts, rows.texts, np.arange(rows.texts.rows), device)
    right = _scores(images, texts, image, caption) > _scores(images, texts, image, negative)
    means, intervals = percentages({ACCURACY: right.astype(float)}, image)
    counts = {"rows": len(image), "images": len(np.unique(image))}
    return Measured(counts, means, {ACCURACY: 50.0}, intervals, [*rows.warnings, *doubts])


def _scores(images: Tensor, texts: Tensor, image: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Return the similarity of each image with its text, (n,)."""
    image, text = (torch.from_numpy(numbers).to(images.device) for numbers in (image, text))
    return (images[image] * texts[text]).sum(1).cpu().numpy()


def _columns(rows: BenchmarkRows) -> list[np.ndarray]:
    """Return the image, the caption and the negative caption of each row, as numbers of rows."""
    listed: Any = rows.meaning.get("rows")
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{rows.path}: rows is {quoted(listed)}: write a list of {', '.join(PARTS)}")
    for place, row in enumerate(listed):
        if not isinstance(row, dict) or not set(PARTS) <= row.keys():
            raise UserError(f"{rows.path}: rows[{place}] is {quoted(row)}: write {', '.join(PARTS)}")
    bounds = (rows.images.rows, rows.texts.rows, rows.texts.rows)
    return [
        rows.numbers([row[part] for row in listed], bound, f"{part} of rows")
        for part, bound in zip(PARTS, bounds, strict=True)
    ]

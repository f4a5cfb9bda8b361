"""Zero-shot classification: is an image nearest to the prompts of its class?"""

import numpy as np
import torch
from torch import Tensor

from frozenalign.data.benchmarks.folder import BenchmarkRows, benchmark_rows
from frozenalign.evaluation.benchmarks.positive_places import positive_places
from frozenalign.evaluation.benchmarks.registry import AskedSet, register_evaluation_set
from frozenalign.evaluation.benchmarks.result import Measured, percentages
from frozenalign.evaluation.projections import map_rows
from frozenalign.models.dual_encoder import DualEncoder, unit
from frozenalign.system.errors import UserError, quoted

CUTOFFS = {"top-1": 1, "top-5": 5}


@register_evaluation_set("zero_shot_classification")
def zero_shot_classification(asked: AskedSet, model: DualEncoder, device: torch.device) -> Measured:
    """Share of images whose class is among the first K; a tie counts against the class, chance is K / classes.

    A class is the mean of the unit vectors of its prompts, scaled to length one. Radford et al. 2021, Learning
    Transferable Visual Models From Natural Language Supervision.
    """
    rows = benchmark_rows(asked.folder, asked.kind)
    doubts = asked.doubts(rows.images, rows.texts, rows.hashes, np.arange(rows.images.rows))
    names, labels, prompts = _classes(rows)
    images = map_rows(model.encode_images, rows.images, np.arange(rows.images.rows), device)
    texts = map_rows(model.encode_texts, rows.texts, np.arange(rows.texts.rows), device)
    place = positive_places(images, class_vectors(texts, prompts), np.arange(len(labels)), labels)
    cutoffs = {name: k for name, k in CUTOFFS.items() if k < len(names)}
    means, intervals = percentages(
        {name: (place < k).astype(float) for name, k in cutoffs.items()}, np.arange(len(labels))
    )
    counts = {"images": len(labels), "classes": len(names), "prompts": sum(map(len, prompts))}
    chance = {name: 100.0 * k / len(names) for name, k in cutoffs.items()}
    return Measured(counts, means, chance, intervals, [*rows.warnings, *doubts, *_same_names(names)])


def class_vectors(texts: Tensor, prompts: list[np.ndarray]) -> Tensor:
    """Return one unit vector for each class, (C, D), from unit vectors of texts (M, D) and the rows of each class."""
    means = [texts[torch.from_numpy(of_class).to(texts.device)].mean(0) for of_class in prompts]
    return unit(torch.stack(means))


def _classes(rows: BenchmarkRows) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
    """Return the names (C), the class of each image (N,), and the text rows of each class."""
    names, prompts = rows.meaning.get("classes"), rows.meaning.get("prompts")
    if not isinstance(names, list) or len(names) < 2 or {type(name) for name in names} != {str}:
        raise UserError(f"{rows.path}: classes is {quoted(names)}: write the names of at least two classes")
    if not isinstance(prompts, list) or len(prompts) != len(names):
        raise UserError(f"{rows.path}: prompts is {quoted(prompts)}: write a list of text rows for each class")
    labels = rows.numbers(rows.meaning.get("labels"), len(names), "labels")
    if len(labels) != rows.images.rows:
        raise UserError(
            f"{rows.path}: labels has {len(labels)} entries: write one for each of {rows.images.rows} images"
        )
    return names, labels, [rows.numbers(each, rows.texts.rows, f"prompts[{i}]") for i, each in enumerate(prompts)]


def _same_names(names: list[str]) -> list[str]:
    if not (same := len(names) - len(set(names))):
        return []
    return [f"{same} classes have the name of another, so that they tie and are never the first"]

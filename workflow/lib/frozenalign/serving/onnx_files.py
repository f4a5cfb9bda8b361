"""The towers of a model, and its pair scorer, as ONNX files for any number of rows, checked in onnxruntime."""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from frozenalign.models.dual_encoder import DualEncoder, Standardize, unit
from frozenalign.serving.folding import is_neutral, tried_rows
from frozenalign.system.errors import UserError, one_line
from frozenalign.system.files import write_bytes
from frozenalign.system.optional_libraries import imported

LEAVE_OUT = "leave the ONNX files out with `--without-onnx`"
INSTALL = f"pip install -r envs/requirements-export.txt`, or {LEAVE_OUT.removesuffix('`')}"
EXPORTERS = ("torch.onnx", "onnxscript", "onnx_ir")
ROW_COUNTS = (1, 3, 1000)
LARGEST_DIFFERENCE = 1e-5
# Rows of the traced example: a number that no dimension is likely to have by chance.
TRACED_ROWS = 7


class Projection(nn.Module):
    """Raw embeddings to unit vectors of the common space, as `DualEncoder` projects them."""

    def __init__(self, statistics: Standardize, tower: nn.Module) -> None:
        super().__init__()
        self.statistics, self.tower = _unless_neutral(statistics), tower

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map (N, D_in) to unit vectors (N, D)."""
        return unit(self.tower(self.statistics(embeddings)))


class PairScores(nn.Module):
    """Raw embeddings of pairs to the scores by which the second stage orders candidates."""

    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.image_statistics = _unless_neutral(model.image_statistics)
        self.text_statistics = _unless_neutral(model.text_statistics)
        self.image_tower, self.text_tower, self.scorer = model.image_tower, model.text_tower, model.scorer

    def forward(self, image_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """Map the images (P, D_image) and the texts (P, D_text) of P pairs to scores (P,)."""
        image, image_tokens = self.image_tower.with_tokens(self.image_statistics(image_embeddings))
        text, text_tokens = self.text_tower.with_tokens(self.text_statistics(text_embeddings))
        similarity = (unit(image) * unit(text)).sum(-1)
        return self.scorer(self.scorer.image_parts(image_tokens), self.scorer.text_parts(text_tokens), similarity)


@dataclass(frozen=True)
class Graph:
    """What becomes one ONNX file: its name, the module, names of inputs and output, and rows for each input by count.

    trained: computes the expected output of these rows.
    """

    file: str
    module: nn.Module
    inputs: tuple[str, ...]
    output: str
    rows: Callable[[int], tuple[Tensor, ...]]
    trained: nn.Module


def graphs(model: DualEncoder, trained: DualEncoder) -> list[Graph]:
    """Return the graphs of a model: both towers, and the pair scorer where it has one.

    trained: the model before anything was folded, to which the outputs are held.
    """

    def images(count: int) -> tuple[Tensor]:
        return (tried_rows(trained.image_statistics, count),)

    def texts(count: int) -> tuple[Tensor]:
        return (tried_rows(trained.text_statistics, count),)

    found = [
        Graph(
            f"{modality}.onnx",
            Projection(getattr(model, f"{modality}_statistics"), getattr(model, f"{modality}_tower")),
            ("embeddings",),
            "projections",
            rows,
            Projection(getattr(trained, f"{modality}_statistics"), getattr(trained, f"{modality}_tower")),
        )
        for modality, rows in (("image", images), ("text", texts))
    ]
    if model.scorer is not None:
        names = ("image_embeddings", "text_embeddings")

        def pairs(count: int) -> tuple[Tensor, Tensor]:
            return (*images(count), *texts(count))

        found.append(Graph("pair_scorer.onnx", PairScores(model), names, "scores", pairs, PairScores(trained)))
    return found


def write_onnx(folder: Path, graph: Graph) -> float:
    """Write the ONNX file of a graph, and return its largest difference from PyTorch for ROW_COUNTS rows.

    One that differs by LARGEST_DIFFERENCE or more is a UserError, and not written.
    """
    try:
        content = _exported(graph)
    except torch.onnx.OnnxExporterError as error:
        reason = one_line(str(error.__cause__ or error).partition("\n")[0])
        raise UserError(f"{folder / graph.file}: this head cannot be exported ({reason}): {LEAVE_OUT}") from error
    difference = _difference(content, graph)
    if not difference < LARGEST_DIFFERENCE:
        raise UserError(
            f"{folder / graph.file} would differ from the trained model by {difference:.1g} where "
            f"{LARGEST_DIFFERENCE:.0e} is allowed: {LEAVE_OUT}"
        )
    write_bytes(folder / graph.file, content)
    return difference


def refuse_without_libraries() -> None:
    """Raise a UserError with the command that installs what is missing, before anything is computed."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        imported(name, INSTALL)


def _exported(graph: Graph) -> bytes:
    """Return the file of a graph whose number of rows is free."""
    module = graph.module.cpu().eval()
    rows = torch.export.Dim("rows")
    with _quietly():
        program = torch.onnx.export(
            module,
            graph.rows(TRACED_ROWS),
            input_names=list(graph.inputs),
            output_names=[graph.output],
            dynamic_shapes=tuple({0: rows} for _ in graph.inputs),
            dynamo=True,
            verbose=False,
        )
    return _without_notes(program.model_proto).SerializeToString(deterministic=True)


def _without_notes(model: Any) -> Any:
    """Return an ONNX model without what the exporter notes of the Python source, such as paths of this machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


@torch.no_grad()
def _difference(content: bytes, graph: Graph) -> float:
    """Return the largest difference between what onnxruntime and PyTorch compute, NaN if any number is none.

    It is relative where numbers are larger than one, as the scores of pairs.
    """
    session = imported("onnxruntime", INSTALL).InferenceSession(content, providers=["CPUExecutionProvider"])
    largest = []
    for count in ROW_COUNTS:
        rows = graph.rows(count)
        feed = {name: each.numpy() for name, each in zip(graph.inputs, rows, strict=True)}
        found, expected = torch.from_numpy(session.run([graph.output], feed)[0]), graph.trained.cpu().eval()(*rows)
        largest.append((found - expected).abs().max() / expected.abs().max().clamp(min=1))
    return torch.stack(largest).max().item()


def _unless_neutral(statistics: Standardize) -> nn.Module:
    """Return a standardisation, or nothing where its statistics are folded into what follows."""
    return nn.Identity() if is_neutral(statistics) else statistics


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep from the user what the exporter says of its own steps, and of libraries that are not needed here."""
    loggers = [logging.getLogger(name) for name in EXPORTERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

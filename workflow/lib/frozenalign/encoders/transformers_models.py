"""Models of the library transformers: opened from safetensors alone, whole, in evaluation mode."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from frozenalign.encoders.model_files import INSTALL, ModelFiles, opening
from frozenalign.encoders.pooling import POOLINGS
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.system.errors import UserError
from frozenalign.system.optional_libraries import imported


def import_transformers() -> ModuleType:
    """Import transformers, without its progress bars.

    Where torchvision is installed, transformers imports it, and fails to import models if it is of another PyTorch.
    """
    transformers = imported("transformers", INSTALL)
    if transformers.utils.is_torchvision_available():
        imported("torchvision", "pip uninstall torchvision")
    transformers.logging.disable_progress_bar()
    return transformers


def open_model(settings: EncoderSettings, files: ModelFiles, device: torch.device) -> Any:
    """Return the model of a folder in `dtype`, with all the weights that its pooling needs.

    transformers fills weights that a file lacks with random numbers and a warning: here that is an error.
    """
    transformers = import_transformers()
    with opening(settings, files):
        model, report = transformers.AutoModel.from_pretrained(
            files.path,
            dtype=getattr(torch, settings.dtype),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    absent = sorted(name for name in report["missing_keys"] if not _is_unused(name, settings))
    if absent:
        raise UserError(
            f"encoder {settings.encoder}: {files.path} has no weights {absent[0]} (of {len(absent)} that "
            f"{type(model).__name__} needs): name a model that has them, or another `pooling`"
        )
    if hasattr(model.config, "use_cache"):
        # Keys and values of every layer, kept for a next token that never comes: 4 GB a batch of E5-Mistral.
        model.config.use_cache = False
    return model.to(device).eval().requires_grad_(False)


def _is_unused(weight: str, settings: EncoderSettings) -> bool:
    return "pooler" in weight and settings.pooling in POOLINGS


def pooled(output: Any, settings: EncoderSettings) -> Tensor:
    """Return the pooled rows (n, D) of a model's output: its attention head's, or a projection's in CLIP."""
    rows = output if isinstance(output, Tensor) else getattr(output, "pooler_output", None)
    if rows is None:
        raise UserError(
            f"encoder {settings.encoder}: pooling: {settings.name} has no pooled output: set `pooling: mean` or `cls`"
        )
    # Convolutional networks keep the two dimensions of the picture.
    return rows.flatten(1)


def versions(*libraries: str) -> dict[str, str]:
    """Return the versions of PyTorch and of libraries."""
    return {"torch": torch.__version__, **{name: imported(name, INSTALL).__version__ for name in libraries}}

"""Projection heads that align two frozen encoders."""

from typing import Any

__all__ = ["AlignedModel", "load_heads"]  # noqa: F822


def __getattr__(name: str) -> Any:
    """Return `AlignedModel` or `load_heads`; only who asks for one waits for PyTorch."""
    if name == "load_heads":
        from frozenalign.models.model_file import load_heads

        return load_heads
    if name == "AlignedModel":
        from frozenalign.serving.aligned_model import AlignedModel

        return AlignedModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

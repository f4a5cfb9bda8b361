"""Projection heads that align two frozen encoders."""

from typing import Any

__all__ = ["load_heads"]  # noqa: F822


def __getattr__(name: str) -> Any:
    """Return `load_heads`; only who asks for it waits for PyTorch."""
    if name != "load_heads":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from frozenalign.models.model_file import load_heads

    return load_heads

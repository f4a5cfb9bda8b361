"""The conditions of a run: device, versions, time and memory."""

import importlib.metadata
import platform
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from frozenalign.system.devices import device_name
from frozenalign.system.files import file_hash

PACKAGES = ("torch", "numpy", "scikit-learn", "optuna", "snakemake")


def run_facts(
    device: torch.device, precision: torch.dtype, seconds: float, parameters: int, models: Sequence[Path]
) -> dict[str, Any]:
    """Return the facts of a run for run.json, with the SHA-256 of the models that it wrote or combined."""
    return {
        "format": 2,
        "models": [file_hash(path) for path in models],
        "seconds": seconds,
        "device": device.type,
        "device_name": device_name(device),
        "precision": {torch.float32: "fp32", torch.bfloat16: "bf16"}[precision],
        "threads": torch.get_num_threads(),
        "parameters": parameters,
        "versions": versions(),
        "peak_memory_bytes": peak_memory_bytes(),
    }


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that compute."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def peak_memory_bytes() -> int:
    """Return the largest resident memory that this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

"""Which device computes, and in which number format."""

import os
import platform
from pathlib import Path

import torch

from frozenalign.system.errors import UserError

BF16_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}


def choose_device(name: str) -> torch.device:
    """Return the device that `device:` names; auto takes CUDA, then Apple's MPS, then the CPU."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available.get(name, False):
        there = ", ".join(kind for kind, yes in available.items() if yes)
        raise UserError(f"device: {name} is asked for but this machine's PyTorch has {there}: set `device: auto`")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the format of matrix products that `precision:` names; auto takes bf16 where hardware multiplies it."""
    if name == "auto":
        name = "bf16" if _multiplies_bf16(device) else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bool(BF16_CPU_FLAGS & _cpu_flags())


def _cpu_flags() -> set[str]:
    """Return the CPU's feature flags as Linux lists them; nothing elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def device_name(device: torch.device) -> str:
    """Return the device's own name for the report."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"

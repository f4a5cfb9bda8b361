"""Which device computes, and in which number format."""

import os
import platform

import torch

from frozenalign.system.errors import UserError


def choose_device(name: str) -> torch.device:
    """Return the device that `device:` names; auto takes CUDA, then Apple's MPS, then the CPU."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [kind for kind, is_there in found.items() if is_there]
    if name not in ("auto", *available):
        raise UserError(
            f"device: {name} is asked for but this machine's PyTorch has {', '.join(available)}: set `device: auto`"
        )
    return torch.device(available[0] if name == "auto" else name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the format of matrix products that `precision:` names; auto takes bf16 if the hardware multiplies it."""
    if name != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]
    if device.type == "cuda":
        multiplies_bf16 = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        by_cpu = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        multiplies_bf16 = device.type == "cpu" and by_cpu
    return torch.bfloat16 if multiplies_bf16 else torch.float32


def device_name(device: torch.device) -> str:
    """Return the name of a device for the report."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"

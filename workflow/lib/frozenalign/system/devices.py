"""Which device computes, and in which number format."""

import logging
import os
import platform
import re

import torch

from frozenalign.system.errors import UserError
from frozenalign.system.reservations import Reservation, reserve

logger = logging.getLogger(__name__)
VISIBLE = "CUDA_VISIBLE_DEVICES"


def choose_device(name: str) -> torch.device:
    """Return the device that `device:` names; auto takes CUDA (or AMD's ROCm), then Apple's MPS, then the CPU.

    Of several CUDA devices, this process takes the one that the fewest others have taken, and keeps it to its end.
    `cuda:N` is the N-th, from 0, of those that CUDA_VISIBLE_DEVICES leaves. The log says which one was taken.
    """
    # CUDA uses the first of several MIG instances and reads this list once: the one to use must be the only one in it.
    instances = _mig_instances() if re.fullmatch(r"auto|cuda(:\d+)?", name) else ()
    if instances:
        taken = _taken(name, instances)
        os.environ[VISIBLE] = instances[taken.index]
        device = torch.device("cuda", 0)
    elif device_type(name) == "cuda":
        taken = _taken(name, tuple(map(_physical_name, range(torch.cuda.device_count()))))
        device = torch.device("cuda", taken.index)
    else:
        return torch.device(device_type(name))
    # What names no device, as the state of the random numbers, is this device's from now on.
    torch.cuda.set_device(device)
    shared = f", one of {taken.others + 1} processes there" if taken.others else ""
    logger.info("on %s, %s%s", device, device_name(device), shared)
    return device


def device_type(name: str) -> str:
    """Return cuda, mps or cpu, whichever `device:` means on this machine; one that is not there is a UserError."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [kind for kind, is_there in found.items() if is_there]
    kind = "cuda" if re.fullmatch(r"cuda:\d+", name) else name
    if kind not in ("auto", *available):
        raise UserError(
            f"device: {name} is asked for but this machine's PyTorch has {', '.join(available)}: set `device: auto`"
        )
    return available[0] if kind == "auto" else kind


def _taken(name: str, devices: tuple[str, ...]) -> Reservation:
    """Return the reservation of one of the visible CUDA devices, or of the one whose number stands in `device:`."""
    number = name.partition(":")[2]
    if number and int(number) >= len(devices):
        last = f"cuda:{len(devices) - 1}"
        raise UserError(f"device: {name} is asked for but the last one here is {last}: set `device: cuda` or {last}")
    first = int(number or 0)
    try:
        found = reserve((devices[first],) if number else devices)
    except (OSError, UserError) as error:
        logger.warning("warning: no GPU can be reserved (%s): set CUDA_VISIBLE_DEVICES for each of several jobs", error)
        return Reservation(first, 0)
    return Reservation(first + found.index, found.others)


def _mig_instances() -> tuple[str, ...]:
    """Return the MIG instances that CUDA_VISIBLE_DEVICES lists, none if it lists other devices."""
    names = tuple(name.strip() for name in os.environ.get(VISIBLE, "").split(","))
    return names if names[0].startswith("MIG-") else ()


def _physical_name(index: int) -> str:
    """Return what all processes of this machine call a visible device, whatever CUDA_VISIBLE_DEVICES says in each."""
    return str(getattr(torch.cuda.get_device_properties(index), "uuid", None) or f"cuda{index}")


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

"""How many accelerators this machine has, counted without PyTorch, which takes seconds to load."""

import functools
import os
import platform
import re
import subprocess

# A driver that hangs counts as none.
PATIENCE_SECONDS = 20


@functools.cache
def accelerator_count() -> int:
    """Return how many devices jobs can be spread over: NVIDIA's GPUs, else AMD's, else Apple's one, or 0.

    The drivers' own programs list them. CUDA_VISIBLE_DEVICES restricts the first, ROCR_VISIBLE_DEVICES and
    HIP_VISIBLE_DEVICES (or CUDA_VISIBLE_DEVICES) the second. Of MIG instances that are not listed there, CUDA uses one.
    """
    if nvidia := re.findall(r"^(GPU|  MIG) ", _said("nvidia-smi", "-L"), re.MULTILINE):
        return _listed("CUDA_VISIBLE_DEVICES", 1 if "  MIG" in nvidia else len(nvidia))
    amd = set(re.findall(r"^GPU\[(\d+)\]", _said("rocm-smi", "--showid"), re.MULTILINE))
    # From ROCm 7 on, rocm-smi need not be there.
    if amd := amd or set(re.findall(r"^GPU: (\d+)", _said("amd-smi", "list"), re.MULTILINE)):
        second = "HIP_VISIBLE_DEVICES" if "HIP_VISIBLE_DEVICES" in os.environ else "CUDA_VISIBLE_DEVICES"
        return _listed(second, _listed("ROCR_VISIBLE_DEVICES", len(amd)))
    return int((platform.system(), platform.machine()) == ("Darwin", "arm64"))


def _said(*command: str) -> str:
    """Return what a program printed, nothing if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=PATIENCE_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _listed(variable: str, count: int) -> int:
    """Return how many of `count` devices an environment variable lists, by number or name; all if it is not set.

    As for the drivers, the list ends with its first number that is not a device's.
    """
    if variable not in os.environ:
        return count
    entries = [entry.strip() for entry in os.environ[variable].split(",")]
    ends = [i for i, entry in enumerate(entries) if not entry or re.fullmatch(r"-\d+", entry) or _beyond(entry, count)]
    return min([len(entries), *ends])


def _beyond(entry: str, count: int) -> bool:
    return entry.isdigit() and int(entry) >= count

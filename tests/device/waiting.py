"""How often the CPU waits for a device within an epoch, and how the time of a step divides between the two."""

import time
from collections.abc import Callable, Iterator

import torch
from torch.autograd.profiler_util import EventList
from torch.profiler import ProfilerActivity, profile

from frozenalign.training.epochs import end_epoch, train_epoch
from frozenalign.training.fit import start
from tests.device.findings import Finding, at_most
from tests.device.sizes import Sizes
from tests.simulated_device import MPS, simulated_device
from tests.small_training import NAMED, REGULARISED, STATEFUL, experiment, raw, rotated_pairs

BATCH, STEPS = 16, 4
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
LAUNCHES = (
    "cudaLaunchKernel",
    "cudaLaunchKernelExC",
    "cuLaunchKernel",
    "cuLaunchKernelEx",
    "cudaGraphLaunch",
    "hipLaunchKernel",
    "hipGraphLaunch",
)


def waits(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Count what an epoch of twice as many steps waits more, for every head and loss with a state of its own."""
    count = _counted_by_the_profiler if device.type == "cuda" else _counted_by_simulation
    note = "" if device.type == "cuda" else "on a simulated device"
    for name, (head, loss) in list(zip(NAMED, STATEFUL, strict=True))[: sizes.trainings]:
        few, many = (count(device, head, loss, steps) for steps in (STEPS, 2 * STEPS))
        yield at_most("waits of the CPU in a step", name, (many - few) / STEPS, 0, note=note)


def launches(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Say how often the CPU launches something in a step, and how much of its time the device computes."""
    if device.type != "cuda":
        yield Finding("launches", "in a step", "not measured", note="only CUDA launches kernels")
        return
    events, seconds = _profiled(device, "mlp", {"type": "siglip"}, 8 * STEPS)
    launched = sum(each.count for each in events if each.key in LAUNCHES) / (8 * STEPS)
    busy = sum(each.self_device_time_total for each in events) / 1e6
    note = f"the device computed {busy:.3g} s of {seconds:.3g} s, with the profiler"
    yield Finding("launches", "in a step", f"{launched:.0f}", note=note)


def _counted_by_the_profiler(device: torch.device, head: str, loss: dict[str, object], steps: int) -> int:
    events, _ = _profiled(device, head, loss, steps)
    return sum(each.count for each in events if each.key in WAITS)


def _profiled(device: torch.device, head: str, loss: dict[str, object], steps: int) -> tuple[EventList, float]:
    """Return what an epoch called and computed, and its seconds."""
    epoch = _epoch(device, head, loss, steps)
    epoch()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        began = time.perf_counter()
        epoch()
        torch.cuda.synchronize(device)
        seconds = time.perf_counter() - began
    return found.key_averages(), seconds


def _counted_by_simulation(device: torch.device, head: str, loss: dict[str, object], steps: int) -> int:
    with simulated_device() as simulated:
        epoch = _epoch(MPS, head, loss, steps)
        epoch()
        before = simulated.waits.total()
        epoch()
        return simulated.waits.total() - before


def _epoch(device: torch.device, head: str, loss: dict[str, object], steps: int) -> Callable[[], None]:
    settings, data = experiment(head, loss, batch_size=BATCH, **REGULARISED), raw(rotated_pairs(BATCH * steps))
    on_device = data.to(device)
    state = start(settings, on_device, seed=0)

    def epoch() -> None:
        train_epoch(state, on_device.train, settings.training, seed=0)
        end_epoch(state)

    return epoch

"""Seeds, and the state of PyTorch's random number generators."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from frozenalign.system.errors import UserError


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of the generators of the CPU and of the device."""
    state = {"cpu": torch.get_rng_state()}
    if device.type in ("cuda", "mps"):
        state[device.type] = getattr(torch, device.type).get_rng_state()
    return state


def restore_random_state(state: dict[str, Tensor]) -> None:
    """Set the generators to a state that `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    for kind in state.keys() - {"cpu"}:
        getattr(torch, kind).set_rng_state(state[kind])


@contextlib.contextmanager
def own_random_numbers(device: torch.device, number: int) -> Iterator[None]:
    """Draw other random numbers for each `number` within a block; after it the generators are as they were before."""
    before = random_state(device)
    torch.manual_seed(int(torch.randint(1 << 31, ())) + number)
    try:
        yield
    finally:
        restore_random_state(before)


def refuse_negative_seed(seed: int) -> None:
    """Refuse a `--seed` below 0, which no random generator takes."""
    if seed < 0:
        raise UserError(f"--seed is {seed}: take 0 or a larger whole number")

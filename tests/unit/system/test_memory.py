"""Computations are halved until they fit, and what a failed attempt held is free before the next."""

import mmap
import platform
import subprocess
import sys
import weakref

import pytest
import torch

from frozenalign.system.errors import UserError, is_out_of_memory, run
from frozenalign.system.memory import FittingSize

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("error", "means_it"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
            True,
        ),
        (MemoryError(), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_means_that_memory_ran_out(error, means_it):
    assert is_out_of_memory(error) is means_it


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_a_lack_that_nothing_works_around_ends_a_script_with_a_sentence(error):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit, match="error: out of memory: give the job more, set `device: cpu`, or lower"):
        run(main)


def fits(most: int, tried: list[int]):
    """Return a computation that memory holds at this size and below; it records the sizes that were tried."""

    def compute(size: int) -> int:
        tried.append(size)
        if size > most:
            raise MemoryError
        return 7

    return compute


def test_a_size_is_halved_until_it_fits_and_kept_for_the_next_computation(caplog):
    tried, sizes = [], FittingSize("rows", 4, "lower x")
    assert sizes.run(fits(20, tried), 100, CPU) == 7
    assert tried == [100, 50, 25, 12]
    assert sizes.run(fits(20, tried), 100, CPU) == 7
    assert sizes.run(fits(20, tried), 5, CPU) == 7
    assert tried[4:] == [12, 5]
    assert caplog.text.count("out of memory: going on with 12 rows at once") == 1


def test_a_size_is_kept_for_the_device_that_was_short_of_memory():
    tried, sizes = [], FittingSize("rows", 4, "lower x")
    sizes.run(fits(50, tried), 100, CPU)
    sizes.run(fits(100, tried), 100, torch.device("meta"))
    assert tried == [100, 50, 100]
    assert sizes.found == {"cpu": 50}


def test_the_smallest_size_is_given_up_in_words():
    with pytest.raises(UserError, match="out of memory even with 30 rows at once: lower x"):
        FittingSize("rows", 30, "lower x").run(fits(20, []), 60, CPU)


def test_a_smaller_size_gives_the_inner_one_its_room_back():
    """Parts of 8 leave room for tiles of 4, larger parts for none."""
    tried, tiles = [], FittingSize("tiles", 2, "lower y")
    parts = FittingSize("parts", 4, "lower x", inner=tiles)

    def compute(part: int) -> tuple[int, int]:
        return part, tiles.run(fits_beside, 8, CPU, part)

    def fits_beside(tile: int, part: int) -> int:
        tried.append((part, tile))
        if part > 8 or tile > 4:
            raise MemoryError
        return tile

    assert parts.run(compute, 16, CPU) == (8, 4)
    assert tried == [(16, 8), (16, 4), (16, 2), (8, 8), (8, 4)]
    assert parts.run(compute, 16, CPU) == (8, 4)
    assert tried[5:] == [(8, 4)]


def test_a_second_attempt_draws_the_random_numbers_of_the_first():
    def compute(size: int) -> float:
        drawn = torch.rand(()).item()
        if size > 5:
            raise MemoryError
        return drawn

    torch.manual_seed(0)
    expected = torch.rand(2).tolist()
    torch.manual_seed(0)
    assert [FittingSize("rows", 1, "lower x").run(compute, 20, CPU), torch.rand(()).item()] == expected


class _Saving(torch.autograd.Function):
    """The identity, which keeps a large tensor for its backward pass."""

    saved: weakref.ref

    @staticmethod
    def forward(ctx, x):
        ctx.large = torch.ones(1000)
        _Saving.saved = weakref.ref(ctx.large)
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class _OutOfMemory(torch.autograd.Function):
    """The identity, whose backward pass finds no memory."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_what_a_failed_backward_pass_kept_is_free_before_the_next_attempt():
    """PyTorch keeps the branches of a graph that it had not come to yet, here the saving one."""

    def compute(size: int) -> bool:
        if size < 8:
            return _Saving.saved() is None
        leaf = torch.ones(3, requires_grad=True)
        saving = _Saving.apply(leaf)
        (saving + _OutOfMemory.apply(leaf)).sum().backward()
        return None

    assert FittingSize("rows", 4, "lower x").run(compute, 8, CPU) is True


def test_another_error_is_not_taken_for_a_lack_of_memory():
    def broken(size: int) -> None:
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        FittingSize("rows", 4, "lower x").run(broken, 100, CPU)


FAULTS = """
import resource, sys, torch
from frozenalign.system import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        blocks = [torch.ones(10 << 20) for _ in range(2)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

memory.keep_freed_memory()
faults()
kept = faults()
memory.release_memory()
print(kept, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library keeps what it likes")
def test_freed_memory_is_kept_for_the_next_step_until_memory_runs_out():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, released = map(int, done.stdout.split())
    pages_of_a_block = (40 << 20) // mmap.PAGESIZE
    assert kept < pages_of_a_block < released

"""Where memory is short, work goes on in smaller pieces with the same result; then an error names the setting."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from frozenalign.evaluation import ranks as retrieval
from frozenalign.evaluation.ranks import retrieval_ranks
from frozenalign.losses import tiled
from frozenalign.losses.tiled import SigmoidPairs, SoftmaxPairs
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system import memory
from frozenalign.system.errors import UserError, is_out_of_memory, run
from frozenalign.system.memory import halved_until_it_fits
from frozenalign.system.products import product
from frozenalign.system.random_state import random_state, restore_random_state
from frozenalign.training.fit import fit
from frozenalign.training.micro_batches import backward
from tests.small_training import STATEFUL, experiment

ROOT = Path(__file__).parents[2]
WITHOUT_DROPOUT = [(head, loss) for head, loss in [*STATEFUL, ("linear", {"type": "infonce"})] if head != "align"]


@pytest.fixture(autouse=True)
def _every_warning_is_new() -> None:
    memory._warn_once.cache_clear()


def limited_to(rows: int, function):
    """Return a tower's function as it would be on a device that can train no more rows at once."""

    def limited(self, x):
        if self.training and len(x) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return function(self, x)

    return limited


def small_product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Multiply as a device would that has no memory for more than 200 rows."""
    if len(x) > 200:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return product(x, y)


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


def test_a_size_is_halved_until_it_fits_said_once_and_given_up_in_words(caplog):
    tried = []

    def compute(size: int) -> int:
        tried.append(size)
        if size > 20:
            raise MemoryError
        return 7

    assert halved_until_it_fits(compute, 100, 4, "rows", "lower x") == (7, 12)
    assert tried == [100, 50, 25, 12]
    halved_until_it_fits(compute, 100, 4, "rows", "lower x")
    assert caplog.text.count("out of memory: going on with 12 rows at once") == 1
    with pytest.raises(UserError, match="out of memory even with 30 rows at once: lower x"):
        halved_until_it_fits(compute, 60, 30, "rows", "lower x")


def test_another_error_is_not_taken_for_a_lack_of_memory():
    def broken(size: int) -> None:
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        halved_until_it_fits(broken, 100, 4, "rows", "lower x")


@pytest.mark.parametrize(("head", "loss"), WITHOUT_DROPOUT, ids=str)
def test_a_training_in_parts_of_batches_ends_where_one_in_whole_batches_does(head, loss, data, monkeypatch, caplog):
    without = {"dropout": 0.0} if head != "linear" else {}
    settings = experiment(head, loss, model=without, num_epochs=3)
    whole = fit(settings, data, seed=0)
    tower = type(whole.model.image_tower)
    with monkeypatch.context() as patched:
        patched.setattr(tower, "forward", limited_to(20, tower.forward))
        if hasattr(tower, "with_tokens"):
            patched.setattr(tower, "with_tokens", limited_to(20, tower.with_tokens))
        in_parts = fit(settings, data, seed=0)
    assert (whole.part, in_parts.part) == (32, 16)
    assert "going on with 16 rows of a batch at once" in caplog.text
    assert [record["loss"] for record in in_parts.history[1:]] == pytest.approx(
        [record["loss"] for record in whole.history[1:]], rel=2e-3
    )


def test_gradients_in_parts_are_those_of_the_whole_batch_in_float64():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(50, 12, generator=generator, dtype=torch.float64)
    found = {}
    for part in (50, 16, 7):
        torch.manual_seed(0)
        tower = torch.nn.Sequential(torch.nn.Linear(12, 8), torch.nn.GELU(), torch.nn.Linear(8, 4)).double()

        def features(where: slice, tower=tower) -> tuple:
            return torch.nn.functional.normalize(tower(rows[where]), dim=1), tower(rows[where] ** 2)

        def loss(outputs) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(outputs[0] @ outputs[1].T, torch.arange(50))

        value = backward(features, loss, 50, part, rows.device)
        found[part] = [value, *(parameter.grad for parameter in tower.parameters())]
    for part in (16, 7):
        for whole, split in zip(found[50], found[part], strict=True):
            torch.testing.assert_close(split, whole, rtol=1e-10, atol=1e-12)


def test_dropout_has_the_same_masks_when_a_part_is_taken_again():
    rows, weight = torch.ones(40, 6), torch.ones(6, requires_grad=True)
    dropout = torch.nn.Dropout(0.5)
    torch.manual_seed(3)
    before = random_state(rows.device)
    value = backward(lambda where: [dropout(rows[where]) * weight], lambda x: x[0].sum(), 40, 16, rows.device)
    after = random_state(rows.device)
    restore_random_state(before)
    masks = torch.cat([dropout(rows[start : start + 16]) for start in (0, 16, 32)])
    assert torch.equal(weight.grad, masks.sum(0))
    assert value == masks.sum()
    assert torch.equal(random_state(rows.device)["cpu"], after["cpu"])


def test_a_head_that_normalises_over_the_batch_says_what_to_lower(data, monkeypatch):
    tower = type(DualEncoder(experiment("align").model, 12, 9).image_tower)
    monkeypatch.setattr(tower, "forward", limited_to(20, tower.forward))
    with pytest.raises(UserError, match=r"even with 30 rows of a batch at once: lower training\.batch_size"):
        fit(experiment("align", {"type": "align"}), data, seed=0)


def test_losses_and_ranks_are_the_same_in_smaller_tiles(monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.nn.functional.normalize(torch.randn(700, 8, generator=generator), dim=1) for _ in "xy")
    scale, bias = torch.tensor(10.0), torch.tensor(-5.0)

    def all_results() -> list:
        results = []
        for sums, others in ((SigmoidPairs, (scale, bias)), (SoftmaxPairs, (scale,))):
            leaf = x.clone().requires_grad_()
            total = sums.apply(leaf, y, *others, None)
            total.backward()
            results += [total.detach(), leaf.grad]
        ranks = retrieval_ranks(x, y, torch.arange(700))
        return results, (ranks.t2i.tolist(), ranks.i2t.tolist())

    expected, expected_ranks = all_results()
    for module in (tiled, retrieval):
        monkeypatch.setattr(module, "product", small_product)
    found, ranks = all_results()
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert ranks == expected_ranks
    assert "going on with 128 rows and columns of the loss at once" in caplog.text
    assert "going on with 128 rows and columns of the scores at once" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited this way on Linux alone")
def test_a_training_that_the_machine_has_no_memory_for_goes_on_in_parts():
    """The allocator itself refuses: the activations of the whole batch do not fit any more, those of a part do."""
    program = """
import resource, torch
from tests.small_training import experiment, raw, rotated_pairs
from frozenalign.training.fit import fit
torch.set_num_threads(1)
wide = {"hidden_dim": 4096, "dropout": 0.0}
settings = experiment("mlp", {"type": "siglip"}, model=wide, batch_size=4096, num_epochs=1)
for room in (None, 200 << 20):
    if room:
        held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + room, -1))
    trained = fit(settings, raw(rotated_pairs(4096)), 0)
    print(trained.part, trained.history[-1]["loss"])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    whole, in_parts = (line.split() for line in done.stdout.splitlines())
    assert int(in_parts[0]) < int(whole[0]) == 4096
    assert float(in_parts[1]) == pytest.approx(float(whole[1]), rel=1e-4)

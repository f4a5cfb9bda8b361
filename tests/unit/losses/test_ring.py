"""The sigmoid loss of several processes, whose texts go round the ring: no process holds the features of all."""

import os
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, distributed
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from frozenalign.losses import tiled
from frozenalign.losses.registry import build_loss
from frozenalign.system import products
from frozenalign.system.processes import LOST, Processes
from frozenalign.training.fit import start
from frozenalign.training.steps import train_step
from tests.several_processes import SECONDS, Team
from tests.small_training import experiment, raw, rotated_pairs

PAIRS, WIDTH = 61, 64
LARGEST_SHARE = {2: 31, 3: 21}
SIGLIP, BIAS, SCALE = {"type": "siglip", "temperature": 0.2, "bias_init": -3.0}, -3.0, 5.0


@pytest.fixture(scope="module", params=[2, 3], ids=["two", "three"])
def team(request) -> Iterator[Team]:
    members = Team(request.param)
    yield members
    members.end()


def features(pairs: int) -> tuple[Tensor, Tensor]:
    """Return float64 features (pairs, 8) of two modalities."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(pairs, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    return functional.normalize(x).requires_grad_(), functional.normalize(y).requires_grad_()


def of_the_ring(processes: Processes, pairs: int, masked: bool) -> list[Tensor]:
    """Return the loss with its gradients by features, scale and bias, added up over the processes."""
    x, y = features(pairs)
    loss = build_loss(SIGLIP, pairs, masked).double()
    loss.processes = processes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_by_onednn", lambda device: False)
        value = loss(processes.own(x), processes.own(y), torch.arange(pairs) // 2)
    value.backward()
    found = [value.detach(), x.grad, y.grad, loss.logit_scale.grad, loss.bias.grad]
    processes.add_up(found)
    return found


def of_all_logits(pairs: int, masked: bool) -> list[Tensor]:
    """Return the same of the loss as its paper writes it, from the whole matrix of logits."""
    x, y = features(pairs)
    logit_scale, bias = (torch.tensor(value, dtype=torch.float64).requires_grad_() for value in (SCALE, BIAS))
    logit_scale = logit_scale.detach().log().requires_grad_()
    signs = 2 * torch.eye(pairs, dtype=torch.float64) - 1
    terms = -functional.logsigmoid(signs * (logit_scale.exp() * x @ y.T + bias))
    image_index = torch.arange(pairs) // 2
    left_out = masked & (image_index[:, None] == image_index) & (signs < 0)
    value = terms.masked_fill(left_out, 0.0).sum() / pairs
    value.backward()
    return [value.detach(), x.grad, y.grad, logit_scale.grad, bias.grad]


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("pairs", [PAIRS, 12, 4, 2], ids=["uneven", "even", "one row more", "an empty share"])
def test_loss_and_gradients_are_those_of_the_whole_matrix(team, pairs, masked):
    expected = of_all_logits(pairs, masked)
    for found in team.run(of_the_ring, pairs, masked):
        for mine, one in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, one, rtol=1e-6, atol=1e-8)


def test_no_process_holds_more_features_than_the_largest_share(team):
    share = LARGEST_SHARE[len(team.members)] * WIDTH
    assert team.run(largest_tensor_of_a_step, SIGLIP) == [share] * len(team.members)


def test_a_loss_that_gathers_features_would_be_noticed(team):
    assert team.run(largest_tensor_of_a_step, {"type": "clip"}) == [PAIRS * WIDTH] * len(team.members)


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that an operation makes."""

    numbers = 0

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        made = operation(*arguments, **(named or {}))
        tensors = made if isinstance(made, tuple | list) else [made]
        self.numbers = max([self.numbers, *(each.numel() for each in tensors if isinstance(each, Tensor))])
        return made


def largest_tensor_of_a_step(processes: Processes, loss: dict) -> int:
    """Return the numbers of the largest tensor of a step whose inputs, weights and logits are smaller than features."""
    pairs = rotated_pairs(PAIRS)
    settings = experiment("linear", loss, output_dim=WIDTH)
    state = start(settings, raw(pairs), 0, processes=processes)
    batch = pairs.batch(torch.arange(PAIRS))
    with Largest() as largest:
        train_step(state, batch, 1.0, settings.training)
    return largest.numbers


def test_texts_visit_all_other_processes_and_their_gradients_come_home(team):
    count = len(team.members)
    rows = LARGEST_SHARE[count]
    assert team.run(rows_sent, 0) == [[[rows, rows]] * (count - 1) + [[rows]]] * count


def test_smaller_tiles_in_one_process_change_neither_its_exchanges_nor_the_loss(team):
    expected = of_all_logits(PAIRS, masked=False)
    assert team.run(rows_sent, 1) == team.run(rows_sent, 0)
    for found in team.run(in_little_memory, 1):
        for mine, one in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, one, rtol=1e-6, atol=1e-8)


def rows_sent(processes: Processes, refusing: int) -> list[list[int]]:
    """Return how many rows this process sends in each exchange of a loss, while `refusing` processes lack memory."""
    sent, original = [], distributed.batch_isend_irecv

    def watched(exchanges: list[distributed.P2POp]) -> list[distributed.Work]:
        sent.append([len(each.tensor) for each in exchanges if each.op is distributed.isend])
        return original(exchanges)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "batch_isend_irecv", watched)
        in_little_memory(processes, refusing)
    return sent


def in_little_memory(processes: Processes, refusing: int) -> list[Tensor]:
    """Return what `of_the_ring` does; the last `refusing` processes have no memory for tiles of 16 in the last turn."""
    sizes, original, refuses = [], tiled.product, processes.number >= processes.count - refusing
    tiles_of_a_turn = 4

    def limited(x: Tensor, y: Tensor) -> Tensor:
        sizes.append(len(x))
        if refuses and len(sizes) > tiles_of_a_turn * (processes.count - 1) and len(x) > 4:
            raise RuntimeError("out of memory")
        return original(x, y)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "CPU_TILE", 16)
        patch.setattr(tiled, "SMALLEST_TILE", 4)
        patch.setattr(tiled, "product", limited)
        found = of_the_ring(processes, PAIRS, False)
    assert (8 in sizes) == refuses
    return found


@pytest.mark.parametrize("exchange", [1, 2, 3], ids=["first", "second", "third"])
def test_processes_that_wait_for_a_lost_one_end(exchange):
    team = Team(3)
    for pipe in team.pipes:
        pipe.send((lost_in_the_ring, (exchange,)))
    for member in team.members:
        member.join(SECONDS)
    assert [member.exitcode for member in team.members] == [LOST, 1, LOST]


def lost_in_the_ring(processes: Processes, exchange: int) -> None:
    """Compute a loss during which the second process ends before an exchange."""
    done, original = [], distributed.batch_isend_irecv

    def ending(exchanges: list[distributed.P2POp]) -> list[distributed.Work]:
        done.append(exchanges)
        if processes.number == 1 and len(done) == exchange:
            os._exit(1)
        return original(exchanges)

    distributed.batch_isend_irecv = ending
    of_the_ring(processes, PAIRS, False)

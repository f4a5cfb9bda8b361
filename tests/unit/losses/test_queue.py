"""Losses with queues, block by block: those of the whole matrices in float64, without the memory of these."""

import logging
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from frozenalign.losses import key_sums
from frozenalign.losses.queue import BLIPLoss, MoCoLoss, QueueLoss
from frozenalign.losses.registry import build_loss
from frozenalign.system import products
from tests.held_memory import most_held

WIDTH = 6
# One block of all anchors and keys, and several, the last of which are smaller.
TILES = [512, 20, 7, 2]


@pytest.fixture(autouse=True)
def _plain_products(monkeypatch) -> Iterator[None]:
    """OneDNN multiplies no float64."""
    monkeypatch.setattr(products, "_by_onednn", lambda device: False)
    yield


def unit_rows(count: int, generator: torch.Generator) -> Tensor:
    """Return random unit vectors (count, 6) in float64."""
    return functional.normalize(torch.randn(count, WIDTH, generator=generator, dtype=torch.float64), dim=1)


def batch(count: int, seed: int = 0) -> list[Tensor]:
    """Return features and keys (count, 6) of both modalities, features near their keys."""
    generator = torch.Generator().manual_seed(seed)
    images, texts, *noise = (unit_rows(count, generator) for _ in range(4))
    near = [functional.normalize(rows + 0.5 * far, dim=1) for rows, far in zip((images, texts), noise, strict=True)]
    return [each.requires_grad_() for each in near] + [images, texts]


def queue_loss(name: str, filled: int, queue_size: int = 33, **settings) -> QueueLoss:
    """Return a loss whose queue holds keys of `filled` captions, three an image, and else random vectors."""
    loss = build_loss({"type": name, "queue_size": queue_size, **settings}, batch_size=16).double()
    torch.manual_seed(0)
    loss.prepare_queue(WIDTH)
    loss.image_queue, loss.text_queue = loss.image_queue.double(), loss.text_queue.double()
    if filled:
        _, _, image_keys, text_keys = batch(filled, seed=1)
        loss.enqueue(image_keys, text_keys, torch.arange(filled) // 3)
    return loss


def plain_queue(loss: MoCoLoss, x, y, index, image_keys, text_keys, temperature: Tensor) -> Tensor:
    """Return the loss from all logits at once."""
    own = index[:, None] == loss.queue_index

    def one_way(anchors, keys, queue):
        others = (anchors @ queue.T / temperature).masked_fill(own, -torch.inf)
        logits = torch.cat([(anchors * keys).sum(1, keepdim=True) / temperature, others], dim=1)
        return -torch.log_softmax(logits, 1)[:, 0].mean()

    return (one_way(x, text_keys, loss.text_queue) + one_way(y, image_keys, loss.image_queue)) / 2


def plain_blip(loss: BLIPLoss, x, y, index, image_keys, text_keys, temperature: Tensor) -> Tensor:
    """Return the loss from all logits and targets at once, α taken from the loss."""
    same = (index[:, None] == torch.cat([index, loss.queue_index])).double()
    hard = same / same.sum(1, keepdim=True)

    def one_way(anchors, copies, keys):
        soft = torch.softmax(copies @ keys.T / temperature, 1).detach()
        targets = loss.raised_alpha * soft + (1 - loss.raised_alpha) * hard
        return -(targets * torch.log_softmax(anchors @ keys.T / temperature, 1)).sum(1).mean()

    to_texts = one_way(x, image_keys, torch.cat([text_keys, loss.text_queue]))
    return (to_texts + one_way(y, text_keys, torch.cat([image_keys, loss.image_queue]))) / 2


PLAIN = {"queue": plain_queue, "blip": plain_blip}


def assert_equals_the_plain_form(name: str, loss: QueueLoss, index: Tensor, seed: int = 0) -> None:
    """Hold value and gradients by features and by a learned temperature against the whole matrices."""
    x, y, *keys = batch(len(index), seed)
    value = loss(x, y, index, *keys)
    value.backward()
    exact = [each.detach().requires_grad_() for each in (x, y)]
    temperature = torch.tensor(loss.scalars()["temperature"], dtype=torch.float64, requires_grad=True)
    expected = PLAIN[name](loss, *exact, index, *keys, temperature)
    expected.backward()
    torch.testing.assert_close(value, expected, rtol=1e-11, atol=1e-11)
    for mine, other in zip((x, y), exact, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-9, atol=1e-12)
    if loss.learns_temperature:
        torch.testing.assert_close(loss.temperature.grad, temperature.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("filled", [0, 20, 33, 50], ids=["empty", "partly filled", "filled", "wrapped"])
@pytest.mark.parametrize("name", PLAIN)
def test_value_and_gradients_are_those_of_the_whole_matrices(name, filled, tile, monkeypatch):
    """Captions of one image stand in the batch and in the queue."""
    monkeypatch.setattr(products, "CPU_TILE", tile)
    loss = queue_loss(name, filled)
    loss.start_step(0.5)
    assert_equals_the_plain_form(name, loss, torch.arange(23) // 2 + 5)


@pytest.mark.parametrize("temperature", [0.001, 0.01, 0.5], ids=str)
@pytest.mark.parametrize("name", PLAIN)
def test_logits_may_be_as_large_as_the_lowest_temperature_makes_them(name, temperature, monkeypatch):
    """Up to a thousand, of which no exponential is finite."""
    monkeypatch.setattr(products, "CPU_TILE", 8)
    loss = queue_loss(name, 20, temperature=temperature)
    loss.start_step(2.0)
    assert_equals_the_plain_form(name, loss, torch.arange(23))


@pytest.mark.parametrize("temperature", [0.001, 0.01, 0.07], ids=str)
@pytest.mark.parametrize("name", PLAIN)
def test_large_logits_cost_numbers_of_32_bits_no_digits(name, temperature, monkeypatch):
    """Logits are up to a thousand at the lowest temperature."""
    monkeypatch.setattr(products, "CPU_TILE", 64)
    x, y, *keys = batch(200)
    loss = queue_loss(name, 100, 200, temperature=temperature)
    loss.start_step(1.0)
    found = []
    for dtype in (torch.float64, torch.float32):
        loss.to(dtype).zero_grad()
        value = loss(x.to(dtype), y.to(dtype), torch.arange(200), *(each.to(dtype) for each in keys))
        value.backward()
        found.append([value.item(), *(each.grad.item() for each in loss.parameters())])
    assert found[1] == pytest.approx(found[0], rel=2e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0, 1.5])
@pytest.mark.parametrize("epochs_done", [0.0, 0.3, 4.0])
def test_every_weight_of_soft_targets_gives_the_plain_value(alpha, epochs_done, monkeypatch):
    monkeypatch.setattr(products, "CPU_TILE", 8)
    loss = queue_loss("blip", 20, alpha=alpha)
    loss.start_step(epochs_done)
    assert loss.raised_alpha.item() == pytest.approx(alpha * min(1.0, epochs_done))
    assert_equals_the_plain_form("blip", loss, torch.arange(9) // 3)


@pytest.mark.parametrize("name", PLAIN)
def test_a_queue_that_holds_one_image_alone_is_compared_with(name, monkeypatch):
    """Its own anchors have no negatives in the queue, nor any in a whole block of keys."""
    monkeypatch.setattr(products, "CPU_TILE", 8)
    loss = queue_loss(name, 33)
    loss.queue_index.fill_(4)
    loss.start_step(1.0)
    assert_equals_the_plain_form(name, loss, torch.tensor([4, 1, 4, 2, 3]))


def test_hard_targets_alone_have_the_slope_by_temperature_of_finite_differences():
    loss, index, (x, y, *keys) = queue_loss("blip", 20), torch.arange(9), batch(9)
    loss.start_step(0.0)
    loss(x, y, index, *keys).backward()
    values = []
    for step in (1e-6, -1e-6):
        loss.set_scalars({"temperature": 0.07 + step})
        values.append(loss(x, y, index, *keys).item())
    assert loss.temperature.grad.item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)
    assert not math.isclose(*values, rel_tol=1e-12)


@pytest.mark.parametrize("name", PLAIN)
def test_memory_grows_with_the_keys_by_a_blocks_rows_and_not_with_the_matrix(name, monkeypatch):
    """A block of 64 rows of logits, and what one tile and features need; the whole matrix has 1,200 rows."""
    monkeypatch.setattr(products, "CPU_TILE", 64)
    pairs, queue_size = 1200, 1300
    loss, index = queue_loss(name, 50, queue_size), torch.arange(pairs)
    loss.start_step(1.0)
    x, y, *keys = batch(pairs)
    found = most_held(lambda: loss(x, y, index, *keys).backward())
    logits = 8 * 64 * (queue_size + pairs)
    assert found < 1.3 * logits + 20 * x.nbytes
    temperature = torch.tensor(0.07, dtype=torch.float64)
    whole = most_held(lambda: PLAIN[name](loss, x, y, index, *keys, temperature).backward())
    assert whole > 8 * pairs * queue_size > 4 * found


class Refusing:
    """Products as on a device that has no memory for more than some keys at once."""

    def __init__(self, keys: int) -> None:
        self.keys, self.refused = keys, 0

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        if y.shape[1] > self.keys:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return products.product(x, y)


@pytest.mark.parametrize("name", PLAIN)
def test_blocks_that_fit_are_found_once_and_change_no_gradient(name, monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    loss = queue_loss(name, 50, 700)
    loss.start_step(1.0)
    refusing = Refusing(200)
    monkeypatch.setattr(key_sums, "product", refusing)
    for seed in (0, 2):
        loss.zero_grad()
        assert_equals_the_plain_form(name, loss, torch.arange(300), seed)
    assert loss.tiles.found == {"cpu": 128}
    assert refusing.refused == 2  # Blocks of 512 and 256.
    assert caplog.text.count("going on with 128 rows and columns of the loss at once") == 1


def test_the_rising_weight_is_a_number_on_the_device_that_no_checkpoint_holds():
    loss = queue_loss("blip", 20)
    on_device = loss.raised_alpha
    loss.start_step(0.5)
    assert loss.raised_alpha is on_device
    assert on_device.item() == pytest.approx(0.2)
    assert set(loss.state_dict()) == {"temperature", "image_queue", "text_queue", "queue_index", "position"}


@pytest.mark.parametrize("name", PLAIN)
def test_a_recorded_step_computes_what_the_loss_does_whatever_changes_between_steps(name, monkeypatch):
    """A record, as a CUDA graph, repeats operations on the same tensors: a number of Python would stay as it was."""
    monkeypatch.setattr(products, "CPU_TILE", 8)
    loss, index = queue_loss(name, 20), torch.arange(9) // 2

    def step(x: Tensor, y: Tensor, index: Tensor, image_keys: Tensor, text_keys: Tensor) -> tuple[Tensor, ...]:
        value = loss(x, y, index, image_keys, text_keys)
        found = torch.autograd.grad(value, [x, y, *loss.parameters()])
        loss.enqueue(image_keys, text_keys, index)
        return value.detach(), *found

    loss.start_step(0.1)
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    recorded = make_fx(step)(*batch(9)[:2], index, *batch(9)[2:])
    by_record, by_loss = [], []
    for results, compute in ((by_record, torch.no_grad()(recorded)), (by_loss, step)):
        loss.load_state_dict(before)
        for number in range(3):
            x, y, *keys = batch(9, seed=number)
            loss.start_step(0.2 + 0.3 * number)
            if loss.learns_temperature:
                loss.temperature.data.fill_(0.1 + 0.1 * number)
            results += compute(x, y, index + number, *keys)
    for one, other in zip(by_record, by_loss, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)

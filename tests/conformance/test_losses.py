"""Every loss against a float64 rendering of its published formula: value and every gradient."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from frozenalign.losses.queue import BLIPLoss, MoCoLoss
from frozenalign.losses.registry import LOSSES, build_loss
from frozenalign.system import products as tiles

BATCH, WIDTH = 12, 7


def features(seed: int, rows: int = BATCH) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, WIDTH, generator=generator), dim=1)


def log_softmax(logits: torch.Tensor, axis: int) -> torch.Tensor:
    shifted = logits - logits.max(axis, keepdim=True).values
    return shifted - shifted.exp().sum(axis, keepdim=True).log()


def cross_entropy(logits: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Mean over rows of the cross-entropy with the diagonal, the smoothed share spread over all columns."""
    chances = log_softmax(logits, 1)
    return -((1 - smoothing) * chances.diagonal() + smoothing * chances.mean(1)).mean()


def siglip(x, y, log_scale, bias):
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(x)):
        for j in range(len(y)):
            z = 1.0 if i == j else -1.0
            total = total + torch.log1p(torch.exp(-z * (torch.exp(log_scale) * (x[i] @ y[j]) + bias)))
    return total / len(x)


def clip(x, y, log_scale):
    logits = torch.exp(log_scale) * (x @ y.T)
    return 0.5 * (cross_entropy(logits) + cross_entropy(logits.T))


def infonce(x, y):
    logits = x @ y.T / 0.05
    return 0.5 * (cross_entropy(logits) + cross_entropy(logits.T))


def align(x, y, temperature):
    logits = x @ y.T / temperature
    return cross_entropy(logits, 0.1) + cross_entropy(logits.T, 0.1)


# loss section, float64 formula, learned values by name with their start
IN_BATCH = {
    "siglip": ({"type": "siglip"}, siglip, {"logit_scale": math.log(10), "bias": -10.0}),
    "siglip, automatic bias": (
        {"type": "siglip", "bias_init": "auto"},
        siglip,
        {"logit_scale": math.log(10), "bias": math.log((1 / BATCH) / (1 - 1 / BATCH))},
    ),
    "clip": ({"type": "clip"}, clip, {"logit_scale": math.log(1 / 0.07)}),
    "infonce": ({"type": "infonce"}, infonce, {}),
    "align": ({"type": "align"}, align, {"temperature": 1.0}),
}


@pytest.mark.parametrize("tile", [512, 5], ids=["one tile", "ragged tiles"])
@pytest.mark.parametrize("name", IN_BATCH)
def test_value_and_gradients_equal_the_formula(name, tile, monkeypatch):
    monkeypatch.setattr(tiles, "CPU_TILE", tile)
    settings, formula, starts = IN_BATCH[name]
    loss = build_loss(settings, BATCH)
    x, y = features(0).requires_grad_(), features(1).requires_grad_()
    value = loss(x, y, torch.arange(BATCH))
    value.backward()

    exact = [tensor.detach().double().requires_grad_() for tensor in (x, y)]
    learned = [torch.tensor(start, dtype=torch.float64, requires_grad=True) for start in starts.values()]
    expected = formula(*exact, *learned)
    expected.backward()

    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    for tensor, reference in zip((x, y), exact, strict=True):
        torch.testing.assert_close(tensor.grad.double(), reference.grad, rtol=1e-4, atol=1e-6)
    parameters = dict(loss.named_parameters())
    assert set(parameters) == set(starts)
    for parameter, reference in zip(starts, learned, strict=True):
        assert parameters[parameter].grad.item() == pytest.approx(reference.grad.item(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("tile", [512, 5], ids=["one tile", "ragged tiles"])
@pytest.mark.parametrize("name", ["siglip", "clip", "infonce"])
def test_masked_pairs_of_one_image_leave_value_and_gradients(name, tile, monkeypatch):
    """Against the formula with the logits of those pairs at minus infinity."""
    monkeypatch.setattr(tiles, "CPU_TILE", tile)
    index = torch.tensor([0, 1, 2, 0, 3, 4, 1, 5, 6, 7, 8, 0])
    loss = build_loss({"type": name}, BATCH, mask_same_image=True)
    x, y = features(0).requires_grad_(), features(1).requires_grad_()
    value = loss(x, y, index)
    value.backward()

    exact_x, exact_y = (tensor.detach().double().requires_grad_() for tensor in (x, y))
    scale, bias = {"siglip": (10.0, -10.0), "clip": (1 / 0.07, 0.0), "infonce": (20.0, 0.0)}[name]
    others = (index[:, None] == index[None, :]) & ~torch.eye(BATCH, dtype=torch.bool)
    logits = (scale * exact_x @ exact_y.T + bias).masked_fill(others, -torch.inf)
    if name == "siglip":
        expected = (functional.softplus(logits).sum() - logits.diagonal().sum()) / BATCH
    else:
        expected = sum(-torch.log_softmax(logits, axis).diagonal().mean() for axis in (0, 1)) / 2
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    for tensor, reference in ((x, exact_x), (y, exact_y)):
        torch.testing.assert_close(tensor.grad.double(), reference.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["clip", "infonce", "align"])
def test_smoothed_labels_give_each_row_a_share_of_the_whole_batch(name):
    loss = build_loss({"type": name, "temperature": 0.5, "label_smoothing": 0.2}, BATCH)
    x, y = features(0), features(1)
    logits = x.double() @ y.double().T / 0.5
    both = cross_entropy(logits, 0.2) + cross_entropy(logits.T, 0.2)
    expected = both if name == "align" else both / 2
    assert loss(x, y, torch.arange(BATCH)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_sigmoid_loss_is_a_sum_over_pairs_divided_by_the_batch_not_by_its_square():
    loss = build_loss({"type": "siglip"}, BATCH)
    x, y = features(0), features(1)
    logits = 10 * x @ y.T - 10
    signs = 2 * torch.eye(BATCH) - 1
    mean_over_all = -functional.logsigmoid(signs * logits).mean()
    assert loss(x, y, torch.arange(BATCH)).item() == pytest.approx(BATCH * mean_over_all.item(), rel=1e-5)


def test_scales_are_kept_in_their_published_bounds():
    clip_loss, siglip_loss, blip_loss = (build_loss({"type": name}, BATCH) for name in ("clip", "siglip", "blip"))
    clip_loss.logit_scale.data.fill_(9.0)
    siglip_loss.logit_scale.data.fill_(9.0)
    blip_loss.temperature.data.fill_(2.0)
    for loss in (clip_loss, siglip_loss, blip_loss):
        loss.after_step()
    assert clip_loss.logit_scale.item() == pytest.approx(math.log(100))
    assert siglip_loss.logit_scale.item() == 9.0
    assert blip_loss.temperature.item() == 0.5


def filled(loss, batches: int, size: int = BATCH):
    """Put known keys of images 100, 101, … into a queue, and return all keys put in."""
    loss.prepare_queue(WIDTH)
    put = []
    for number in range(batches):
        image_keys, text_keys = features(10 + number, size), features(50 + number, size)
        index = torch.arange(size) + 100 + number * size
        loss.enqueue(image_keys, text_keys, index)
        put.append((image_keys, text_keys, index))
    return put


def moco_one_way(anchors, keys, queue, own):
    total = torch.zeros((), dtype=torch.float64)
    for i, anchor in enumerate(anchors):
        logits = [anchor @ keys[i] / 0.07] + [anchor @ queue[j] / 0.07 for j in range(len(queue)) if not own[i, j]]
        total = total - logits[0] + torch.logsumexp(torch.stack(logits), 0)
    return total / len(anchors)


@pytest.mark.parametrize("tile", [512, 5], ids=["one tile", "ragged tiles"])
def test_queue_loss_equals_the_formula_and_never_counts_the_anchors_own_image(tile, monkeypatch):
    monkeypatch.setattr(tiles, "CPU_TILE", tile)
    loss = MoCoLoss(queue_size=30)
    filled(loss, 2)
    index = torch.cat([torch.arange(BATCH - 2), torch.tensor([100, 113])])
    x, y = features(0).requires_grad_(), features(1).requires_grad_()
    image_keys, text_keys = features(2), features(3)
    value = loss(x, y, index, image_keys, text_keys)
    value.backward()

    a, b = (tensor.detach().double().requires_grad_() for tensor in (x, y))
    own = index[:, None] == loss.queue_index[None, :]
    assert own.sum() == 2
    expected = 0.5 * (
        moco_one_way(a, text_keys.double(), loss.text_queue.double(), own)
        + moco_one_way(b, image_keys.double(), loss.image_queue.double(), own)
    )
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(x.grad.double(), a.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(y.grad.double(), b.grad, rtol=1e-4, atol=1e-6)


def blip_one_way(anchors, anchor_keys, keys, same, alpha, temperature):
    hard = same / same.sum(1, keepdim=True)
    soft = torch.softmax(anchor_keys @ keys.T / temperature, 1).detach()
    target = alpha * soft + (1 - alpha) * hard
    return -(target * log_softmax(anchors @ keys.T / temperature, 1)).sum(1).mean()


@pytest.mark.parametrize("tile", [512, 5], ids=["one tile", "ragged tiles"])
@pytest.mark.parametrize(("epochs_done", "alpha"), [(0.0, 0.0), (0.25, 0.1), (3.0, 0.4)])
def test_blip_loss_equals_the_formula_with_alpha_rising_over_the_first_epoch(epochs_done, alpha, tile, monkeypatch):
    monkeypatch.setattr(tiles, "CPU_TILE", tile)
    loss = BLIPLoss(queue_size=30)
    filled(loss, 2)
    loss.start_step(epochs_done)
    index = torch.cat([torch.arange(BATCH - 2), torch.tensor([3, 113])])
    x, y = features(0).requires_grad_(), features(1).requires_grad_()
    image_keys, text_keys = features(2), features(3)
    value = loss(x, y, index, image_keys, text_keys)
    value.backward()

    a, b = (tensor.detach().double().requires_grad_() for tensor in (x, y))
    temperature = torch.tensor(0.07, dtype=torch.float64, requires_grad=True)
    images = torch.cat([image_keys, loss.image_queue]).double()
    texts = torch.cat([text_keys, loss.text_queue]).double()
    same = (index[:, None] == torch.cat([index, loss.queue_index])[None, :]).double()
    expected = 0.5 * (
        blip_one_way(a, image_keys.double(), texts, same, alpha, temperature)
        + blip_one_way(b, text_keys.double(), images, same, alpha, temperature)
    )
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(x.grad.double(), a.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(y.grad.double(), b.grad, rtol=1e-4, atol=1e-6)
    assert loss.temperature.grad.item() == pytest.approx(temperature.grad.item(), rel=1e-4)


@pytest.mark.parametrize("size", [1, 5, 12, 30, 31, 70])
def test_a_queue_holds_the_newest_keys_whatever_the_batch_size(size):
    loss = MoCoLoss(queue_size=30)
    put = filled(loss, 7, size)
    everything = torch.cat([index for *_, index in put])
    newest = everything[-30:]
    held = loss.queue_index[loss.queue_index >= 0]
    assert sorted(held.tolist()) == sorted(newest.tolist())
    all_texts = torch.cat([text for _, text, _ in put])
    for slot, index in enumerate(loss.queue_index.tolist()):
        if index >= 0:
            assert torch.equal(loss.text_queue[slot], all_texts[everything.tolist().index(index)])


def test_a_queue_is_made_anew_when_the_feature_width_changes():
    loss = MoCoLoss(queue_size=8)
    filled(loss, 1, 4)
    loss.prepare_queue(WIDTH + 1)
    assert loss.image_queue.shape == (8, WIDTH + 1)
    assert (loss.queue_index == -1).all()
    np.testing.assert_allclose(loss.image_queue.norm(dim=1).numpy(), 1.0, rtol=1e-5)


def test_every_registered_loss_is_held_against_a_formula():
    assert set(LOSSES) == {settings["type"] for settings, *_ in IN_BATCH.values()} | {"queue", "blip"}

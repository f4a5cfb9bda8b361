"""The calibrated start: the temperature and bias with the lowest loss on the features that training starts from."""

import logging
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

from frozenalign.data.pairs import ResidentPairs
from frozenalign.losses.registry import LOSSES, ContrastiveLoss, build_loss
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.training import calibration
from frozenalign.training.augmentation import Augmentation
from frozenalign.training.calibration import calibrate
from frozenalign.training.checkpoints import Checkpoint
from frozenalign.training.data import TrainingData
from frozenalign.training.fit import fit, start
from frozenalign.training.steps import Fit, tower_outputs
from tests.small_training import RAW, assert_same, experiment, raw

UNCHANGED = Augmentation(0.0, 0.0, 0.0, 0.0)
NOISY = Augmentation(0.0, 0.5, 0.5, 0.0)
AUTO = {name: {"temperature": "auto"} for name in ("clip", "infonce", "align")}
AUTO["siglip"] = {"temperature": "auto", "bias_init": "auto"}
AUTO["queue"] = AUTO["blip"] = {"temperature": "auto", "queue_size": 80}
BATCH = 64


def related_pairs(images: int = 160, captions: int = 3, seed: int = 1) -> ResidentPairs:
    """Return pairs whose texts tell much, not all, of their image."""
    generator = torch.Generator().manual_seed(seed)
    rows, owner = torch.randn(images, 12, generator=generator), torch.arange(images).repeat_interleave(captions)
    texts = rows[owner] + 0.7 * torch.randn(images * captions, 12, generator=generator)
    return ResidentPairs(rows, texts, owner)


def aligned(pairs: ResidentPairs) -> DualEncoder:
    """Return a head whose outputs are its inputs."""
    width = pairs.widths[0]
    model = DualEncoder({"type": "linear", "output_dim": width}, width, width)
    with torch.no_grad():
        for tower in (model.image_tower, model.text_tower):
            tower.weight.copy_(torch.eye(width))
            tower.bias.zero_()
    return model


def a_loss(name: str, batch_size: int = BATCH, **changes) -> ContrastiveLoss:
    return build_loss({"type": name, **AUTO[name], **changes}, batch_size)


def plain(name: str, similarity: np.ndarray, temperature: float, bias: float) -> float:
    """Return a loss of the similarities (B, B) of a batch, from its formula."""
    logits = similarity / temperature + bias
    if name == "siglip":
        signs = 2 * np.eye(len(logits)) - 1
        return np.logaddexp(0, -signs * logits).sum() / len(logits)
    share = 0.1 if name == "align" else 0.0
    target = (1 - share) * np.eye(len(logits)) + share / len(logits)
    by_row, by_column = (
        -(target * (each - np.logaddexp.reduce(each, 1, keepdims=True))).sum(1).mean() for each in (logits, logits.T)
    )
    return by_row + by_column if name == "align" else (by_row + by_column) / 2


def similarities(model: DualEncoder, pairs: ResidentPairs, chosen: Tensor) -> np.ndarray:
    images, texts, _ = pairs.batch(chosen)
    with torch.no_grad():
        x, y = (rows.double() for rows in tower_outputs(model, images, texts))
    return (x @ y.T).numpy()


@pytest.mark.parametrize("name", ["siglip", "clip", "infonce", "align"])
def test_the_scalars_are_the_best_that_another_minimiser_finds_for_the_plain_formula(name, monkeypatch):
    monkeypatch.setattr(calibration, "ANCHORS", BATCH)
    pairs = related_pairs()
    model, loss = aligned(pairs), a_loss(name)
    found = calibrate(model, loss, pairs, UNCHANGED, BATCH)
    assert found["pairs"] == BATCH
    chosen = calibration._pairs_of_distinct_images(pairs.text_image.numpy())[:BATCH]
    similarity = similarities(model, pairs, torch.from_numpy(chosen))

    def of(values: np.ndarray) -> float:
        return plain(name, similarity, math.exp(-values[0]), values[1] if name == "siglip" else 0.0)

    best = minimize(of, [2.0, -5.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000})
    assert found["loss"] == pytest.approx(best.fun, rel=1e-9)
    assert found["temperature"] == pytest.approx(math.exp(-best.x[0]), rel=1e-4)
    if name == "siglip":
        assert found["bias"] == pytest.approx(best.x[1], rel=1e-4)
    default = plain(name, similarity, LOSSES[name].published_temperature, -math.log(BATCH - 1) * (name == "siglip"))
    assert found["loss_before"] == pytest.approx(default, rel=1e-6)
    assert found["loss"] < found["loss_before"]


@pytest.mark.parametrize("name", ["queue", "blip"])
def test_queue_losses_are_fitted_with_keys_of_as_many_other_images_as_the_queue_holds(name, monkeypatch):
    monkeypatch.setattr(calibration, "ANCHORS", 50)
    pairs = related_pairs()
    model, loss = aligned(pairs), a_loss(name)
    found = calibrate(model, loss, pairs, UNCHANGED, BATCH)
    keys = {"queue": 81, "blip": BATCH + 80}[name]
    assert found["pairs"] == keys
    chosen = calibration._pairs_of_distinct_images(pairs.text_image.numpy())[:keys]
    similarity = similarities(model, pairs, torch.from_numpy(chosen))
    grid = np.exp(np.linspace(math.log(0.02), math.log(0.9), 4000))

    def of(temperature: float) -> float:
        ways = similarity[:50] / temperature, similarity.T[:50] / temperature
        return np.mean([np.logaddexp.reduce(way, 1) - np.diagonal(way) for way in ways])

    values = [of(temperature) for temperature in grid]
    assert found["temperature"] == pytest.approx(grid[np.argmin(values)], rel=2e-3)
    assert found["loss"] == pytest.approx(min(values), rel=1e-6)


@pytest.mark.parametrize("name", AUTO)
def test_the_loss_of_logits_is_the_loss_of_a_batch(name):
    generator = torch.Generator().manual_seed(0)
    x, y = (functional.normalize(torch.randn(40, 8, generator=generator)) for _ in range(2))
    loss, index = a_loss(name), torch.arange(40)
    scalars = loss.scalars()
    if name in ("queue", "blip"):
        loss.prepare_queue(8)
        keys = (x, y)
        both = [
            torch.cat([rows @ k.T, rows @ q.T], 1) for rows, k, q in ((x, y, loss.text_queue), (y, x, loss.image_queue))
        ]
        if name == "queue":
            # Its negatives are those of the queue alone.
            in_batch = (torch.arange(120) < 40) & ~torch.eye(40, 120, dtype=torch.bool)
            both = [way.masked_fill(in_batch, -torch.inf) for way in both]
    else:
        keys, both = (), [x @ y.T, y @ x.T]
    logits = torch.stack(both) / scalars["temperature"] + scalars.get("bias", 0.0)
    torch.testing.assert_close(loss.of_logits(logits, 1.0), loss(x, y, index, *keys))


@pytest.mark.parametrize("name", AUTO)
def test_a_negative_that_counts_twice_is_one_that_is_there_twice(name):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, 9, generator=generator, dtype=torch.float64)
    loss = a_loss(name)
    twice = torch.cat([logits, logits.masked_fill(torch.eye(6, 9, dtype=torch.bool), -1e9)], -1)
    if getattr(loss, "label_smoothing", 0.0):
        loss.label_smoothing = 0.0
    torch.testing.assert_close(loss.of_logits(logits, 2.0), loss.of_logits(twice, 1.0))


def test_smoothed_labels_count_a_weighted_negative_as_often():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 1, 5, generator=generator, dtype=torch.float64)
    twice = torch.cat([logits, logits[..., 1:]], -1)
    loss = a_loss("clip", label_smoothing=0.2)
    torch.testing.assert_close(loss.of_logits(logits, 2.0), loss.of_logits(twice, 1.0))


def test_batches_larger_than_the_sample_are_estimated_from_it(monkeypatch):
    pairs = related_pairs(600)
    model = aligned(pairs)
    whole = calibrate(model, a_loss("siglip", 400), pairs, UNCHANGED, 400)
    monkeypatch.setattr(calibration, "KEYS", 100)
    part = calibrate(model, a_loss("siglip", 400), pairs, UNCHANGED, 400)
    assert part["bias"] == pytest.approx(whole["bias"], abs=0.3)
    assert part["temperature"] == pytest.approx(whole["temperature"], rel=0.1)


def test_more_negatives_make_a_lower_bias():
    pairs = related_pairs(600)
    found = [calibrate(aligned(pairs), a_loss("siglip", size), pairs, UNCHANGED, size) for size in (32, 500)]
    assert found[1]["bias"] < found[0]["bias"] - 1


def test_noise_is_that_of_training_and_raises_the_temperature():
    pairs = related_pairs()
    clean, noisy = (calibrate(aligned(pairs), a_loss("clip"), pairs, each, BATCH) for each in (UNCHANGED, NOISY))
    assert noisy["temperature"] > 1.1 * clean["temperature"]


def test_a_bias_alone_is_fitted_to_the_temperature_that_is_given():
    pairs = related_pairs()
    both = calibrate(aligned(pairs), a_loss("siglip"), pairs, UNCHANGED, BATCH)
    found = calibrate(aligned(pairs), a_loss("siglip", temperature=0.3), pairs, UNCHANGED, BATCH)
    assert "temperature" not in found
    assert found["loss"] > both["loss"]
    given = calibrate(aligned(pairs), a_loss("siglip", temperature=both["temperature"]), pairs, UNCHANGED, BATCH)
    assert given["bias"] == pytest.approx(both["bias"], rel=1e-3)


def test_the_result_is_always_the_same_and_random_numbers_go_on_as_if_nothing_had_been_drawn():
    pairs = related_pairs()
    model = aligned(pairs).train()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = calibrate(model, a_loss("siglip"), pairs, NOISY, BATCH)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert calibrate(model, a_loss("siglip"), pairs, NOISY, BATCH) == first


def degenerate(case: str) -> ResidentPairs:
    pairs = related_pairs()
    if case == "one pair":
        return ResidentPairs(pairs.images[:1], pairs.texts[:1], torch.zeros(1, dtype=torch.long))
    if case == "one image":
        return pairs.of_images(torch.zeros_like(pairs.text_image))
    if case == "two pairs":
        return ResidentPairs(pairs.images[:2], pairs.texts[::3][:2], torch.arange(2))
    if case == "unrelated":
        return pairs.with_noise(np.random.default_rng(0))
    if case == "identical":
        return ResidentPairs(pairs.images, pairs.images[pairs.text_image], pairs.text_image)
    value = {"not a number": math.nan, "infinite": math.inf, "collapsed": 1.0, "zero": 0.0}[case]
    return ResidentPairs(torch.full_like(pairs.images, value), torch.full_like(pairs.texts, value), pairs.text_image)


CASES = ["one pair", "one image", "two pairs", "unrelated", "not a number", "infinite", "collapsed", "zero"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", AUTO)
def test_features_that_determine_nothing_leave_the_published_start(name, case, caplog):
    caplog.set_level(logging.INFO)
    pairs = degenerate(case)
    loss = a_loss(name)
    found = calibrate(aligned(pairs), loss, pairs, UNCHANGED, min(BATCH, len(pairs)))
    assert found == {}
    assert caplog.messages[-1].startswith("start without calibration: temperature ")
    assert loss.scalars()["temperature"] == pytest.approx(LOSSES[name].published_temperature)


@pytest.mark.parametrize("name", ["siglip", "clip", "infonce", "queue", "blip"])
def test_features_that_separate_all_pairs_leave_the_published_start(name, caplog):
    caplog.set_level(logging.INFO)
    pairs = degenerate("identical")
    assert calibrate(aligned(pairs), a_loss(name), pairs, UNCHANGED, BATCH) == {}
    assert caplog.messages[-1].endswith("the features separate all pairs")


def test_a_head_that_starts_at_random_keeps_the_published_start():
    settings = experiment("mlp", {"type": "siglip", **AUTO["siglip"]})
    state = start(settings, raw(related_pairs()), 0)
    assert state.calibration == {}
    assert state.loss.scalars() == pytest.approx({"temperature": 0.1, "bias": -math.log(31)}, rel=1e-5)


def from_cca(loss: dict, **settings) -> Fit:
    return start(experiment("linear", loss, model={"init": "cca"}, output_dim=8, **settings), raw(related_pairs()), 0)


@pytest.mark.parametrize("name", AUTO)
def test_training_starts_from_the_calibrated_scalars(name):
    state = from_cca({"type": name, **AUTO[name]})
    fitted = {key: state.calibration[key] for key in state.loss.fitted}
    assert state.loss.scalars() == pytest.approx(fitted, rel=1e-5)
    assert fitted["temperature"] != pytest.approx(LOSSES[name].published_temperature, rel=0.02)


@pytest.mark.parametrize("name", AUTO)
def test_but_for_its_scalars_a_calibrated_training_is_that_with_the_same_fixed_numbers(name):
    data = raw(related_pairs())

    def trained(loss: dict) -> Fit:
        settings = experiment("linear", loss, model={"init": "cca"}, output_dim=8, noise=0.2, num_epochs=2)
        return fit(settings, data, seed=0)

    calibrated = trained({"type": name, **AUTO[name]})
    numbers = {key: calibrated.calibration[key] for key in calibrated.loss.fitted}
    fixed = {"bias_init" if key == "bias" else key: value for key, value in numbers.items()}
    again = trained({"type": name, **AUTO[name], **fixed})
    assert again.calibration == {}
    for name, value in again.model.state_dict().items():
        torch.testing.assert_close(calibrated.model.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_what_was_calibrated_stands_in_the_history():
    data = raw(related_pairs())
    settings = experiment("linear", {"type": "clip", "temperature": "auto"}, model={"init": "cca"}, output_dim=8)
    trained = fit(settings, data, seed=0)
    assert set(trained.history[0]["calibrated"]) == {"temperature", "loss_before", "loss", "pairs"}
    assert all("calibrated" not in record for record in trained.history[1:])


@pytest.mark.parametrize("name", AUTO)
def test_a_training_that_goes_on_has_the_calibrated_scalars(name, tmp_path):
    data = raw(related_pairs())
    settings = experiment("linear", {"type": name, **AUTO[name]}, model={"init": "cca"}, output_dim=8, num_epochs=3)
    whole = fit(settings, data, seed=0)

    def stop(record: dict) -> None:
        if record["epoch"] == 1:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "one", seconds=math.inf)
    with pytest.raises(KeyboardInterrupt):
        fit(settings, data, seed=0, on_epoch=stop, checkpoint=checkpoint)
    resumed = fit(settings, data, seed=0, checkpoint=Checkpoint(tmp_path / "checkpoint.pt", "one"))
    assert resumed.history == whole.history
    assert resumed.calibration == whole.calibration
    assert resumed.loss.scalars() == whole.loss.scalars()
    assert_same(resumed.model.state_dict(), whole.model.state_dict())


def test_a_fixed_temperature_survives_in_the_state_of_its_loss():
    for name in ("infonce", "queue"):
        first, second = a_loss(name), a_loss(name)
        first.set_scalars({"temperature": 0.123})
        second.load_state_dict(first.state_dict())
        assert second.scalars() == {"temperature": 0.123}


def test_a_head_without_a_learnable_temperature_keeps_the_calibrated_one():
    model = {"skip": "cca", "learnable_temp": False}
    data = raw(related_pairs())
    settings = experiment("clip", {"type": "clip", "temperature": "auto"}, model=model, output_dim=8)
    trained = fit(settings, data, seed=0)
    expected = pytest.approx(trained.calibration["temperature"], rel=1e-6)
    assert [record["loss_terms"]["temperature"] for record in trained.history] == [expected] * len(trained.history)


def test_a_prior_is_never_fitted():
    state = from_cca({"type": "siglip", "temperature": "auto", "bias_init": "prior"})
    assert state.loss.scalars()["bias"] == pytest.approx(-math.log(31), rel=1e-6)
    assert set(state.calibration) == {"temperature", "loss_before", "loss", "pairs"}


def test_the_fit_takes_validation_pairs_for_the_start_separates_those_of_training_too_well():
    few, others = related_pairs(images=40), related_pairs(seed=2)
    settings = experiment("linear", {"type": "clip", "temperature": "auto"}, model={"init": "cca"}, output_dim=8)
    seen, unseen = (
        start(settings, TrainingData(few, val, RAW, RAW), seed=0).calibration["temperature"] for val in (few, others)
    )
    assert unseen > 1.2 * seen


@pytest.mark.parametrize("control", ["shuffled_pairs", "shifted_pairs", "random_embeddings"])
def test_controls_train_with_an_automatic_start(control):
    settings = experiment(
        "linear",
        {"type": "siglip", **AUTO["siglip"]},
        model={"init": "cca"},
        output_dim=8,
        num_epochs=1,
        control=control,
    )
    trained = fit(settings, raw(related_pairs()), seed=0)
    assert all(math.isfinite(value) for value in trained.loss.scalars().values())
    assert math.isfinite(trained.history[-1]["loss"])

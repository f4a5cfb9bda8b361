"""Several processes that train together compute what one process computes."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from frozenalign.losses.registry import ContrastiveLoss, build_loss
from frozenalign.models.batch_norm import share_batch_norms
from frozenalign.system import products
from frozenalign.system.processes import Processes
from frozenalign.training import steps
from frozenalign.training.fit import fit, start
from frozenalign.training.steps import Fit, train_step
from tests.several_processes import Team, alone
from tests.small_training import SMALL, experiment, raw, rotated_pairs

# Dropout in the towers is drawn by each process for its own rows.
UNDROPPED = {"dropout": 0.0}
EVERYTHING = {"mixup": 0.5, "noise": 0.2, "input_dropout": 0.1, "structure": 0.1, "weight_average": "ema"}
CASES = {
    "infonce": ("linear", {"type": "infonce", "label_smoothing": 0.1}, {}),
    "clip": ("mlp", {"type": "clip"}, {"model": UNDROPPED}),
    "clip, same image masked": ("mlp", {"type": "clip"}, {"model": UNDROPPED, "same_image": "masked"}),
    "siglip": ("siglip", {"type": "siglip"}, {"model": UNDROPPED}),
    "siglip, same image masked": ("mlp", {"type": "siglip"}, {"model": UNDROPPED, "same_image": "masked"}),
    "siglip, regularised": ("mlp", {"type": "siglip"}, {"model": UNDROPPED, **EVERYTHING}),
    "align with batch norm": ("align", {"type": "align"}, {"model": UNDROPPED, **EVERYTHING}),
    "queue": ("attention", {"type": "queue", "queue_size": 50, "momentum": 0.9}, {"model": UNDROPPED}),
    "blip": ("blip", {"type": "blip", "queue_size": 70}, {"model": UNDROPPED, **EVERYTHING}),
    "cross_modal with matching loss": ("cross_modal", {"type": "siglip"}, {"model": UNDROPPED}),
}


@pytest.fixture(scope="module", params=[2, 3], ids=["two", "three"])
def team(request) -> Iterator[Team]:
    members = Team(request.param)
    yield members
    members.end()


def stepped(processes: Processes, case: str, sizes: tuple[int, ...], compute: torch.dtype = torch.float32) -> Fit:
    """Return a training after steps on batches of these sizes."""
    head, loss, further = CASES[case]
    settings = experiment(head, loss, **further)
    pairs = replace(rotated_pairs(40, 3), compute=compute)
    state = start(settings, raw(pairs), 0, processes=processes)
    state.model.train()
    generator = torch.Generator().manual_seed(1)
    for size in sizes:
        chosen = torch.randperm(len(pairs), generator=generator)[:size]
        train_step(state, pairs.batch(chosen), 0.7, settings.training)
    return state


def gradients(
    processes: Processes, case: str, sizes: tuple[int, ...], compute: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Return the gradients of the last of some steps, with the losses' sum and what the loss holds."""
    state = stepped(processes, case, sizes, compute)
    parameters = [*state.model.named_parameters(), *state.loss.named_parameters()]
    found = {name: value.grad for name, value in parameters if value.grad is not None}
    return found | {"loss": state.loss_sum} | dict(state.loss.named_buffers())


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("size", [32, 7, 2], ids=["a batch", "an uneven batch", "fewer pairs than processes"])
@pytest.mark.parametrize("case", CASES)
def test_a_steps_loss_and_gradients_are_those_of_one_process(team, case, size):
    expected = alone(gradients, case, (size,))
    for found in team.run(gradients, case, (size,)):
        assert_close(found, expected, 2e-5)


@pytest.mark.parametrize("case", ["siglip", "cross_modal with matching loss"])
def test_features_of_16_bit_embeddings_give_the_gradients_of_one_process_up_to_their_rounding(team, case):
    expected = alone(gradients, case, (31,), torch.bfloat16)
    for found in team.run(gradients, case, (31,), torch.bfloat16):
        assert_close(found, expected, 2e-2)


def test_a_loss_that_does_not_share_its_rows_gets_those_of_all(team):
    expected = alone(gradients_of_a_plain_loss)
    for found in team.run(gradients_of_a_plain_loss):
        assert_close(found, expected, 2e-5)


class PlainLoss(ContrastiveLoss):
    """A softmax loss of one direction, as somebody may write it who knows nothing of processes."""

    def forward(self, x: Tensor, y: Tensor, image_index: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(10 * x @ y.T, torch.arange(len(x)))


def gradients_of_a_plain_loss(processes: Processes) -> dict[str, Tensor]:
    """Return the gradients of a step on a batch that the processes do not share evenly."""
    pairs = rotated_pairs(31)
    settings = experiment("linear", {"type": "infonce"})
    state = start(settings, raw(pairs), 0, processes=processes)
    state.loss = PlainLoss()
    train_step(state, pairs.batch(torch.arange(31)), 1.0, settings.training)
    return {name: value.grad for name, value in state.model.named_parameters()} | {"loss": state.loss_sum}


@pytest.mark.parametrize("loss", ["siglip", "infonce"])
def test_all_processes_start_from_the_same_calibrated_scalars(team, loss):
    expected = alone(calibrated, loss)
    assert set(expected) >= {"temperature", "loss"}
    for found in team.run(calibrated, loss):
        assert found == expected


def calibrated(processes: Processes, loss: str) -> dict[str, float]:
    """Return what a head that starts from the CCA calibrates, and the scalars that its loss then has."""
    automatic = {"type": loss, "temperature": "auto"}
    settings = experiment("linear", automatic, model={"init": "cca"}, noise=0.5)
    state = start(settings, raw(rotated_pairs(100, 3)), 0, processes=processes)
    return state.calibration | {f"own {name}": value for name, value in state.loss.scalars().items()}


@pytest.mark.parametrize("case", CASES)
def test_all_processes_hold_the_same_state_bit_for_bit(team, case):
    first, *others = team.run(states, case)
    for other in others:
        assert all(map(torch.equal, first, other))


def states(processes: Processes, case: str) -> list[Tensor]:
    """Return every tensor of a training after some steps, one of them on a single pair of each process."""
    state = stepped(processes, case, (32, 20, processes.count, 32))
    kept = [state.model, state.loss, state.momentum_copy, state.average]
    tensors = [value for module in kept if module is not None for value in module.state_dict().values()]
    return [*tensors, *state.optimizer.means, *state.optimizer.squares, torch.get_rng_state()]


ENDING = ["siglip, regularised", "align with batch norm", "blip", "cross_modal with matching loss"]


@pytest.mark.parametrize("case", ENDING)
def test_a_training_ends_with_the_validation_of_one_process(team, case):
    (records, projected), *others = team.run(trained, case)
    expected_records, expected = alone(trained, case)
    assert curve(records) == pytest.approx(curve(expected_records), rel=1e-4)
    torch.testing.assert_close(projected, expected, rtol=0, atol=1e-4)
    assert all(other[0] == records for other in others)


def curve(records: list[dict]) -> list[float]:
    return [record["val"]["RSUM"] for record in records] + [record["loss"] for record in records[1:]]


def trained(processes: Processes, case: str) -> tuple[list[dict], Tensor]:
    """Return the history of a training and what its model makes of the images."""
    head, loss, further = CASES[case]
    pairs = rotated_pairs(41, 3)
    state = fit(experiment(head, loss, **further), raw(pairs), 0, processes=processes)
    with torch.no_grad():
        return state.history, state.model.eval().encode_images(pairs.images)


def test_dropout_differs_between_processes_and_from_step_to_step(team):
    drawn = [masks for process in team.run(dropout_masks) for masks in process]
    assert len({tuple(mask) for mask in drawn}) == len(drawn)


def dropout_masks(processes: Processes) -> list[list[float]]:
    """Return what a process's random numbers were in the towers, in each of two steps."""
    drawn, original = [], steps.tower_outputs

    def watched(*arguments):
        before = torch.get_rng_state()
        drawn.append(torch.rand(4).tolist())
        torch.set_rng_state(before)
        return original(*arguments)

    steps.tower_outputs = watched
    try:
        stepped(processes, "clip", (32, 32))
    finally:
        steps.tower_outputs = original
    return drawn


@pytest.mark.parametrize("case", ["clip", "blip", "cross_modal with matching loss"])
def test_a_lack_of_memory_in_one_process_changes_nothing(team, case):
    expected = alone(gradients, case, (96,))
    for found in team.run(gradients_in_little_memory, case):
        assert_close(found, expected, 2e-5)


def gradients_in_little_memory(processes: Processes, case: str) -> dict[str, Tensor]:
    """Return the gradients of a step, for which the second process has memory for 16 rows at a time."""
    original = steps.tower_outputs

    def limited(model, images, texts):
        if processes.number == 1 and len(images) > 16:
            raise RuntimeError("out of memory")
        return original(model, images, texts)

    steps.tower_outputs = limited
    try:
        return gradients(processes, case, (96,))
    finally:
        steps.tower_outputs = original


def test_batch_norm_gives_what_one_process_gives_for_all_rows_in_value_and_gradients(team):
    rows = torch.randn(11, 5, generator=torch.Generator().manual_seed(0))
    expected = alone(normalised, rows)
    for found in team.run(normalised, rows):
        assert_close(found, expected, 1e-5)


def normalised(processes: Processes, rows: Tensor) -> dict[str, Tensor]:
    """Return a batch norm's output, gradients and running statistics, put together from all processes."""
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(5))
    torch.nn.init.constant_(model[0].weight, 1.5)
    if processes.count > 1:
        share_batch_norms(model, processes)
    own = rows[processes.rows(len(rows))].clone().requires_grad_()
    output = model(own)
    output.pow(3).sum().backward()
    parts = {"output": output.detach(), "gradient": own.grad}
    if processes.count > 1:
        parts = {name: processes.gathered(part, len(rows)) for name, part in parts.items()}
        processes.add_up([model[0].weight.grad, model[0].bias.grad])
    return parts | {"weight": model[0].weight.grad, "bias": model[0].bias.grad} | dict(model[0].named_buffers())


def test_every_head_trains_on_fewer_pairs_than_processes(team):
    for head in SMALL:
        losses = team.run(loss_of_two_pairs, head)
        assert len({loss.item() for loss in losses}) == 1
        assert losses[0].isfinite()


def loss_of_two_pairs(processes: Processes, head: str) -> Tensor:
    """Return the loss of a head on a batch of two pairs."""
    settings = experiment(head, {"type": "blip" if head == "blip" else "clip"})
    pairs = rotated_pairs(4)
    state = start(settings, raw(pairs), 0, processes=processes)
    state.model.train()
    train_step(state, pairs.batch(torch.arange(2)), 1.0, settings.training)
    return state.loss_sum


LOSSES = [
    {"type": "siglip"},
    {"type": "clip", "label_smoothing": 0.1},
    {"type": "infonce"},
    {"type": "align"},
    {"type": "queue", "queue_size": 9},
    {"type": "blip", "queue_size": 9},
]


@pytest.mark.parametrize("pairs", [23, 2])
@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("settings", LOSSES, ids=[loss["type"] for loss in LOSSES])
def test_the_parts_of_a_loss_add_up_to_it_in_float64(team, settings, masked, pairs):
    """Tiles of five rows and columns, whose diagonals are not those of the shares."""
    expected = alone(loss_and_gradients, settings, masked, pairs)
    for found in team.run(loss_and_gradients, settings, masked, pairs):
        assert_close(found, expected, 1e-12)


def loss_and_gradients(processes: Processes, settings: dict, masked: bool, pairs: int) -> dict[str, Tensor]:
    """Return a loss and its gradients by features and learned values, added up over the processes."""
    generator = torch.Generator().manual_seed(0)
    x, y, *keys = (
        torch.nn.functional.normalize(torch.randn(pairs, 4, generator=generator, dtype=torch.float64)) for _ in range(4)
    )
    loss = build_loss(settings, pairs, masked).double()
    loss.processes = processes
    loss.start_step(0.5)
    takes_keys = hasattr(loss, "prepare_queue")
    if takes_keys:
        torch.manual_seed(0)
        loss.prepare_queue(4)
        loss.image_queue, loss.text_queue = loss.image_queue.double(), loss.text_queue.double()
    leaves = [x.requires_grad_(), y.requires_grad_(), *loss.parameters()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "CPU_TILE", 5)
        patch.setattr(products, "_by_onednn", lambda device: False)
        value = loss(processes.own(x), processes.own(y), torch.arange(pairs) // 2, *keys[: 2 * takes_keys])
    value.backward()
    parts = [value.detach(), *(leaf.grad for leaf in leaves)]
    if processes.count > 1:
        processes.add_up(parts)
    return {str(number): part for number, part in enumerate(parts)}

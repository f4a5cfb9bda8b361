"""A training that was interrupted on a device, and goes on there or, from its state, on the CPU."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from frozenalign.models.model_file import load_heads, save_heads
from frozenalign.training.checkpoints import Checkpoint
from frozenalign.training.fit import fit, start
from tests.device.findings import Finding
from tests.device.sizes import Sizes
from tests.small_training import NAMED, REGULARISED, STATEFUL, experiment, raw, rotated_pairs


def resumed(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Interrupt trainings after their second epoch; with deterministic algorithms they end bit for bit alike."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        for name, (head, loss) in list(zip(NAMED, STATEFUL, strict=True))[: sizes.trainings]:
            same = _ends_alike(device, head, loss)
            yield Finding("resume", name, "same bits" if same else "other bits", "same bits", same)
    finally:
        torch.use_deterministic_algorithms(before)


def carried_over(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    """Read on the CPU what a training on the device has written: its state, and its model."""
    settings, data = experiment(num_epochs=1, **REGULARISED), raw(rotated_pairs(40, 2))
    with tempfile.TemporaryDirectory() as folder:
        trained = fit(settings, data.to(device), seed=0)
        path = Path(folder) / "checkpoint.pt"
        Checkpoint(path, "training").write(trained)
        on_cpu = start(settings, data, seed=1)
        read = Checkpoint(path, "training").read_into(on_cpu)
        same = read and _same(on_cpu.model.state_dict(), trained.model.state_dict())
        yield Finding("checkpoint", "state of the device read on the CPU", "equal" if same else "not", "equal", same)
        model = Path(folder) / "best_model.pt"
        save_heads(model, trained.model, {"settings": settings.as_document()})
        same = _same(load_heads(model)[0].state_dict(), trained.model.state_dict())
        yield Finding("checkpoint", "model of the device read on the CPU", "equal" if same else "not", "equal", same)


def _ends_alike(device: torch.device, head: str, loss: dict[str, Any]) -> bool:
    settings, data = experiment(head, loss, **REGULARISED), raw(rotated_pairs(60, 2)).to(device)
    undisturbed = fit(settings, data, seed=0)

    def interrupt(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        try:
            fit(settings, data, seed=0, on_epoch=interrupt, checkpoint=Checkpoint(path, "training"))
        except KeyboardInterrupt:
            torch.manual_seed(7)
        again = fit(settings, data, seed=0, checkpoint=Checkpoint(path, "training"))
    losses = [[record.get("loss") for record in each.history] for each in (undisturbed, again)]
    return losses[0] == losses[1] and _same(again.model.state_dict(), undisturbed.model.state_dict())


def _same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(found[name].cpu(), value.cpu()) for name, value in expected.items())

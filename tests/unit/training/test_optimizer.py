"""AdamW, held against PyTorch's own class."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from frozenalign.training.optimizer import AdamW, decays

RATES = [0.01, 0.02, 0.005, 0.001]


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3))


def gradients(step: int, module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(step)
    for value in module.parameters():
        value.grad = torch.randn(value.shape, generator=generator)


@pytest.mark.parametrize("clip", [0.0, 0.5, 1000.0], ids=["unbounded", "shortened", "short enough"])
def test_steps_are_those_of_the_class_in_pytorch_with_clipped_gradients(clip):
    ours, theirs = model(), model()
    matrices = [value for value in theirs.parameters() if decays(value)]
    others = [value for value in theirs.parameters() if not decays(value)]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": others, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, foreach=False)
    optimizer = AdamW([ours], weight_decay=0.3)
    for step, rate in enumerate(RATES):
        gradients(step, ours)
        gradients(step, theirs)
        for group in reference.param_groups:
            group["lr"] = rate
        if clip:
            nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        reference.step()
        optimizer.step(rate, clip)
    for mine, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


def test_a_parameter_with_a_rate_steps_as_in_a_group_with_that_multiple_of_the_learning_rate():
    ours, theirs = model(), model()
    ours[0].weight.rate = 10.0
    first, *others = theirs.parameters()
    groups = [
        {"params": [first], "lr": 0.1, "weight_decay": 0.3},
        {"params": [value for value in others if decays(value)], "weight_decay": 0.3},
        {"params": [value for value in others if not decays(value)], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=0.01, foreach=False)
    optimizer = AdamW([ours], weight_decay=0.3)
    for step in range(3):
        gradients(step, ours)
        gradients(step, theirs)
        reference.step()
        optimizer.step(0.01)
    for mine, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


def test_a_parameter_without_a_gradient_stays_where_it_is():
    module = model()
    optimizer = AdamW([module], weight_decay=0.3)
    gradients(0, module)
    module[0].weight.grad = None
    before = module[0].weight.clone()
    optimizer.step(0.1)
    assert torch.equal(module[0].weight, before)
    assert not torch.equal(module[2].weight, model()[2].weight)


def test_a_frozen_parameter_takes_no_part():
    module = model()
    module[0].requires_grad_(False)
    assert len(AdamW([module], 0.1).parameters) == len(list(module.parameters())) - 2


def test_a_restored_state_goes_on_as_if_it_had_never_stopped():
    straight, stopped = model(), model()
    first, second, third = (AdamW([module], 0.1) for module in (straight, stopped, stopped))
    for step, rate in enumerate(RATES):
        gradients(step, straight)
        first.step(rate)
    for step, rate in enumerate(RATES):
        optimizer = second if step < 2 else third
        if step == 2:
            third.load_state_dict(second.state_dict())
        gradients(step, stopped)
        optimizer.step(rate)
    for mine, expected in zip(stopped.parameters(), straight.parameters(), strict=True):
        assert torch.equal(mine, expected)


def test_zero_grad_forgets_the_gradients():
    module = model()
    gradients(0, module)
    AdamW([module], 0.1).zero_grad()
    assert all(value.grad is None for value in module.parameters())


@pytest.mark.parametrize("compiler", ["torch._dynamo"])
def test_a_step_does_not_load_the_compiler(compiler):
    code = (
        "import sys, torch; from frozenalign.training.optimizer import AdamW; layer = torch.nn.Linear(2, 2)\n"
        "layer(torch.ones(1, 2)).sum().backward(); optimizer = AdamW([layer], 0.1); optimizer.step(0.1)\n"
        f"sys.exit({compiler!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The checks of a device run on the CPU in small sizes; they see what is wrong, and end in time."""

import json
import time
from collections.abc import Iterator

import pytest
import torch

from frozenalign.training import epochs
from tests.device import agreement, waiting
from tests.device.findings import Finding, at_least, at_most, table, write_findings
from tests.device.running import CHECKS, run_checks
from tests.device.sizes import SMALL, Sizes

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def found() -> list[Finding]:
    return run_checks(CHECKS, CPU, SMALL, 300, show=lambda line: None)


def test_all_checks_pass_on_the_cpu(found):
    assert [each for each in found if each.met is False] == []
    assert {"agreement", "resume", "checkpoint", "out of memory", "evaluation", "study"} < {
        each.check for each in found
    }


def test_the_table_and_the_file_have_every_finding(found, tmp_path):
    lines = table(found).splitlines()
    assert len(lines) == 1 + len(found)
    assert all(each.case in line for each, line in zip(found, lines[1:], strict=True))
    write_findings(tmp_path / "there" / "device.json", found, {"device": "Accelerator 3000"})
    content = json.loads((tmp_path / "there" / "device.json").read_text())
    assert content["device"] == "Accelerator 3000"
    assert [each["found"] for each in content["findings"]] == [each.found for each in found]


def test_targets_are_met_up_to_their_limits():
    assert [at_most("", "", value, 2.0).verdict for value in (2.0, 2.1)] == ["met", "missed"]
    assert [at_least("", "", value, 2.0).verdict for value in (2.0, 1.9)] == ["met", "missed"]
    assert at_most("", "", float("nan"), 2.0).verdict == "missed"
    assert Finding("", "", "").verdict == "-"


def test_a_device_that_computes_something_else_is_seen(monkeypatch):
    computed = agreement._gradients_of_loss
    calls = []

    def wrong(name: str, masked: bool, device: torch.device, format: torch.dtype = torch.float32) -> list[torch.Tensor]:
        calls.append(device)
        error = 1e-3 * (len(calls) % 2) if format == torch.float32 else 0.1
        return [each * (1 + error) for each in computed(name, masked, device, format)]

    monkeypatch.setattr(agreement, "_gradients_of_loss", wrong)
    assert all(each.met is False for each in agreement.losses(CPU, SMALL))


def test_a_step_that_waits_for_the_device_is_seen(monkeypatch):
    step = epochs.take_step

    def waiting_step(state, *arguments) -> None:
        step(state, *arguments)
        state.loss_sum.item()

    monkeypatch.setattr(epochs, "take_step", waiting_step)
    seen = next(waiting.waits(CPU, SMALL))
    assert (seen.found, seen.met) == ("1", False)


def endless(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    yield Finding("endless", "first part", "there")
    while True:
        time.sleep(0.01)


def broken(device: torch.device, sizes: Sizes) -> Iterator[Finding]:
    yield Finding("broken", "first part", "there")
    raise RuntimeError("no such kernel\nwith a long tail")


def test_a_check_that_fails_is_a_missed_finding_and_the_others_go_on():
    found = run_checks([broken, agreement.ranks], CPU, SMALL, 60, show=lambda line: None)
    assert [each.found for each in found[:2]] == ["there", "failed"]
    assert found[1].note == "RuntimeError: no such kernel"
    assert found[1].met is False
    assert found[2].met is True


def test_the_time_ends_a_check_and_keeps_what_there_is():
    began = time.monotonic()
    found = run_checks([endless, agreement.ranks], CPU, SMALL, 0.5, show=lambda line: None)
    assert time.monotonic() - began < 5
    assert [each.found for each in found] == ["there", "not finished", "not begun"]
    assert [each.met for each in found] == [None, False, False]

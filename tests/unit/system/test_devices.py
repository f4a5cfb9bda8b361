"""Devices and number formats: what auto takes, and the message for a missing device."""

import platform

import pytest
import torch

from frozenalign.system.devices import choose_device, choose_precision, device_name
from frozenalign.system.errors import UserError

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


@pytest.fixture
def machine(monkeypatch):
    """Return a function that makes PyTorch report the accelerators it is told of."""

    def pretend(*kinds: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in kinds)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)

    return pretend


@pytest.mark.parametrize(
    ("there", "expected"), [((), CPU), (("mps",), MPS), (("cuda",), CUDA), (("cuda", "mps"), CUDA)]
)
def test_auto_takes_cuda_then_mps_then_the_cpu(there, expected, machine):
    machine(*there)
    assert choose_device("auto") == expected


def test_a_named_device_is_taken_even_where_a_faster_one_is_there(machine):
    machine("cuda", "mps")
    assert [choose_device(name) for name in ("cpu", "mps", "cuda")] == [CPU, MPS, CUDA]


@pytest.mark.parametrize(
    ("there", "name", "said"),
    [
        ((), "cuda", "cuda is asked for but this machine's PyTorch has cpu"),
        (("mps",), "cuda", "has mps, cpu"),
        (("cuda",), "mps", "has cuda, cpu"),
        ((), "tpu", "tpu is asked for .* set `device: auto`"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(there, name, said, machine):
    machine(*there)
    with pytest.raises(UserError, match=said):
        choose_device(name)


@pytest.mark.parametrize("device", [CPU, MPS, CUDA], ids=str)
def test_a_named_precision_is_taken_on_any_device(device):
    assert choose_precision("fp32", device) == torch.float32
    assert choose_precision("bf16", device) == torch.bfloat16


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"),
    [(False, False, torch.float32), (True, False, torch.bfloat16), (False, True, torch.bfloat16)],
)
def test_on_a_cpu_auto_takes_bf16_if_the_processor_multiplies_it(avx512, amx, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert choose_precision("auto", CPU) == expected


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_on_cuda_auto_takes_bf16_from_ampere_on(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", CUDA) == expected


def test_on_mps_auto_takes_fp32():
    assert choose_precision("auto", MPS) == torch.float32


def test_a_device_has_a_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Accelerator 3000")
    assert device_name(CUDA) == "Accelerator 3000"
    assert platform.machine() in device_name(CPU) or platform.processor() in device_name(CPU)
    assert device_name(CPU).endswith("cores")

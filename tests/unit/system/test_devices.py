"""Devices and number formats: what auto takes, which of several GPUs, and the message for a missing device."""

import logging
import platform
from types import SimpleNamespace

import pytest
import torch

from frozenalign.system import devices
from frozenalign.system.devices import choose_device, choose_precision, device_name, device_type
from frozenalign.system.errors import UserError
from frozenalign.system.reservations import Reservation

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps")


@pytest.fixture
def machine(monkeypatch):
    """Return a function that makes PyTorch report the accelerators it is told of, and no reservation be in force.

    The function returns the CUDA devices that were made the current one.
    """

    def pretend(*kinds: str, gpus: int = 1, reserved: tuple[int, ...] = ()) -> list[torch.device]:
        current = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in kinds)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=f"{i}"))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Accelerator 3000")
        monkeypatch.setattr(torch.cuda, "set_device", current.append)
        holders = dict(enumerate(reserved))

        def reserve(names: tuple[str, ...]) -> Reservation:
            counts = [holders.get(int(name.removeprefix("MIG-")), 0) for name in names]
            return Reservation(counts.index(min(counts)), min(counts))

        monkeypatch.setattr(devices, "reserve", reserve)
        return current

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
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
        ((), "cuda:1", "cuda:1 is asked for but this machine's PyTorch has cpu"),
        (("cuda",), "cuda:x", "cuda:x is asked for but this machine's PyTorch has cuda, cpu"),
        (("cuda",), "cuda:1", "cuda:1 is asked for but the last one here is cuda:0: set `device: cuda` or cuda:0"),
        (("mps",), "cuda", "has mps, cpu"),
        (("cuda",), "mps", "has cuda, cpu"),
        ((), "tpu", "tpu is asked for .* set `device: auto`"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(there, name, said, machine):
    machine(*there)
    with pytest.raises(UserError, match=said):
        choose_device(name)


@pytest.mark.parametrize(
    ("name", "reserved", "taken", "shared"),
    [
        ("cuda", (), 0, ""),
        ("cuda", (1, 0, 0), 1, ""),
        ("auto", (2, 1, 1), 1, ", one of 2 processes there"),
        ("cuda:2", (0, 0, 1), 2, ", one of 2 processes there"),
        ("cuda:2", (1, 1, 0), 2, ""),
    ],
)
def test_of_several_gpus_one_that_fewest_processes_have_taken(name, reserved, taken, shared, machine, caplog):
    current = machine("cuda", gpus=3, reserved=reserved)
    caplog.set_level(logging.INFO)
    device = choose_device(name)
    assert (device, current) == (torch.device("cuda", taken), [device])
    assert caplog.messages == [f"on cuda:{taken}, Accelerator 3000{shared}"]


@pytest.mark.parametrize(
    ("visible", "name", "left"),
    [("MIG-0,MIG-1", "auto", "MIG-1"), ("MIG-0, MIG-1", "cuda:0", "MIG-0"), ("MIG-1", "cuda", "MIG-1")],
)
def test_of_several_mig_instances_the_one_to_use_is_left_before_cuda_starts(visible, name, left, machine, monkeypatch):
    current = machine("cuda", reserved=(1, 0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert choose_device(name) == CUDA
    assert (devices.os.environ["CUDA_VISIBLE_DEVICES"], current) == (left, [CUDA])


@pytest.mark.parametrize("name", ["cpu", "mps"])
def test_what_is_no_gpu_is_neither_reserved_nor_mentioned(name, machine, monkeypatch, caplog):
    machine("cuda", "mps")
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-0,MIG-1")
    monkeypatch.delattr(devices, "reserve")
    assert choose_device(name) == torch.device(name)
    assert caplog.messages == []


def test_where_nothing_can_be_reserved_the_first_gpu_is_taken_with_a_warning(machine, monkeypatch, caplog):
    machine("cuda", gpus=2)

    def refuse(names: tuple[str, ...]) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr(devices, "reserve", refuse)
    assert [choose_device("cuda"), choose_device("cuda:1")] == [CUDA, torch.device("cuda", 1)]
    assert "no GPU can be reserved (not yours): set CUDA_VISIBLE_DEVICES" in caplog.messages[0]


def test_asking_for_the_type_takes_no_device(machine, monkeypatch):
    current = machine("cuda", "mps", gpus=2)
    monkeypatch.delattr(devices, "reserve")
    assert [device_type(name) for name in ("auto", "cuda:1", "mps", "cpu")] == ["cuda", "cuda", "mps", "cpu"]
    assert current == []


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

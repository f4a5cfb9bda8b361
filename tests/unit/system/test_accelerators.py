"""How many GPUs are counted, from what the drivers' programs say and what the environment leaves."""

import platform

import pytest
import yte

from frozenalign.system.accelerators import accelerator_count
from tests.workflow.conftest import ROOT

NVIDIA = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-2c1d0f5e-0000-2b2c-524d-9e3d8d2b8a77)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-9b1d0f5e-0000-2b2c-524d-9e3d8d2b8a77)
"""
MIG = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 3g.20gb     Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
"""
AMD = """
============================ ROCm System Management Interface ============================
GPU[0]\t\t: Device Name: \t\tAMD Instinct MI300X
GPU[0]\t\t: Device ID: \t\t0x74a1
GPU[1]\t\t: Device Name: \t\tAMD Instinct MI300X
GPU[1]\t\t: Device ID: \t\t0x74a1
================================== End of ROCm SMI Log ===================================
"""

NEWER_AMD = """\
GPU: 0
    BDF: 0000:03:00.0
    UUID: 49ff73df-0000-1000-8073-9fa0ef3a1ce5

GPU: 1
    BDF: 0000:83:00.0
    UUID: 84ff73df-0000-1000-80b1-d7be2fb5aa5b
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that puts a driver's program, with what it says and its exit status, first on the path."""
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    accelerator_count.cache_clear()

    def pretend(program: str, said: str, status: int = 0) -> None:
        path = tmp_path / program
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{said}END\nexit {status}\n")
        path.chmod(0o755)

    yield pretend
    accelerator_count.cache_clear()


@pytest.mark.parametrize(
    ("program", "said", "visible", "count"),
    [
        ("nvidia-smi", NVIDIA, {}, 3),
        ("nvidia-smi", NVIDIA, {"CUDA_VISIBLE_DEVICES": "2, 0"}, 2),
        ("nvidia-smi", NVIDIA, {"CUDA_VISIBLE_DEVICES": "GPU-5d5ba0d6"}, 1),
        ("nvidia-smi", NVIDIA, {"CUDA_VISIBLE_DEVICES": ""}, 0),
        ("nvidia-smi", NVIDIA, {"CUDA_VISIBLE_DEVICES": "0,-1,1"}, 1),
        ("nvidia-smi", NVIDIA, {"CUDA_VISIBLE_DEVICES": "1,3,0"}, 1),
        ("nvidia-smi", NVIDIA, {"HIP_VISIBLE_DEVICES": "0"}, 3),
        ("nvidia-smi", MIG, {}, 1),
        ("nvidia-smi", MIG, {"CUDA_VISIBLE_DEVICES": "MIG-c6d4f1ef,MIG-cba663e8"}, 2),
        ("rocm-smi", AMD, {}, 2),
        ("amd-smi", NEWER_AMD, {}, 2),
        ("amd-smi", NEWER_AMD, {"HIP_VISIBLE_DEVICES": "1"}, 1),
        ("rocm-smi", AMD, {"HIP_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "0,1"}, 1),
        ("rocm-smi", AMD, {"CUDA_VISIBLE_DEVICES": "1"}, 1),
        ("rocm-smi", AMD, {"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0"}, 1),
    ],
)
def test_the_devices_that_a_job_can_use_are_counted(program, said, visible, count, machine, monkeypatch):
    machine(program, said)
    for name, value in visible.items():
        monkeypatch.setenv(name, value)
    assert accelerator_count() == count


def test_a_driver_that_fails_counts_as_no_device(machine):
    assert accelerator_count() == 0
    accelerator_count.cache_clear()
    machine("nvidia-smi", "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", status=9)
    assert accelerator_count() == 0


@pytest.mark.parametrize(("processor", "count"), [("arm64", 1), ("x86_64", 0)])
def test_a_mac_has_one_if_apple_made_its_processor(processor, count, machine, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: processor)
    assert accelerator_count() == count


@pytest.mark.parametrize(("said", "limit"), [(NVIDIA, "gpu=3"), ("", "gpu=1")])
def test_the_default_profile_lets_as_many_jobs_compute_as_there_are_gpus(said, limit, machine):
    machine("nvidia-smi", said)
    with (ROOT / "profiles" / "default" / "profile.yaml").open() as profile:
        assert limit in yte.process_yaml(profile, require_use_yte=True)["resources"]

"""What a result was made with: facts that are plain values, versions as installed, memory in bytes."""

import hashlib
import json
import platform
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenalign.system import provenance
from frozenalign.system.provenance import peak_memory_bytes, run_facts

CPU = torch.device("cpu")


def test_the_facts_of_a_run():
    facts = run_facts(CPU, torch.float32, seconds=1.5, parameters=42, models=[Path(__file__)])
    assert list(facts) == [
        "format",
        "models",
        "seconds",
        "device",
        "device_name",
        "precision",
        "threads",
        "parameters",
        "versions",
        "peak_memory_bytes",
    ]
    assert (facts["seconds"], facts["device"], facts["parameters"]) == (1.5, "cpu", 42)
    assert facts["models"] == [hashlib.sha256(Path(__file__).read_bytes()).hexdigest()]
    assert facts["threads"] == torch.get_num_threads()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


@pytest.mark.parametrize(("precision", "name"), [(torch.float32, "fp32"), (torch.bfloat16, "bf16")])
def test_precision_has_the_name_that_the_configuration_gives(precision, name):
    assert run_facts(CPU, precision, 0.0, 0, [])["precision"] == name


def test_versions_are_those_installed():
    versions = run_facts(CPU, torch.float32, 0.0, 0, [])["versions"]
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == np.__version__
    assert versions["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package"))
    versions = run_facts(CPU, torch.float32, 0.0, 0, [])["versions"]
    assert versions == {"python": platform.python_version(), "numpy": np.__version__, "no-such-package": None}


def test_peak_memory_is_in_bytes_and_never_falls():
    block = np.ones(200_000_000, dtype=np.uint8)
    peak = peak_memory_bytes()
    assert 200_000_000 < peak < 10**12
    del block
    assert peak_memory_bytes() >= peak


@pytest.mark.parametrize(("system", "expected"), [("linux", 3072), ("darwin", 3)])
def test_the_kernel_counts_kibibytes_on_linux_and_bytes_on_macos(system, expected, monkeypatch):
    usage = type("Usage", (), {"ru_maxrss": 3})
    monkeypatch.setattr(provenance.resource, "getrusage", lambda who: usage)
    monkeypatch.setattr(provenance.sys, "platform", system)
    assert peak_memory_bytes() == expected

"""The width of a saved matrix, found without PyTorch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from frozenalign.data.tensor_header import matrix_width

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 255), (70_000, 2), (2, 70_000), (300, 256)])
def test_the_width_is_that_of_the_tensor(tmp_path, shape, dtype):
    torch.save(torch.zeros(shape, dtype=dtype), tmp_path / "rows.pt")
    assert matrix_width(tmp_path / "rows.pt") == shape[1]


def test_a_view_into_a_larger_storage_has_its_own_width(tmp_path):
    torch.save(torch.zeros(10, 7)[3:5], tmp_path / "rows.pt")
    assert matrix_width(tmp_path / "rows.pt") == 7


@pytest.mark.parametrize(
    "content",
    [torch.zeros(5), torch.zeros(2, 3, 4), torch.zeros(()), {"a": 1}, [1, 2, 3], "text"],
)
def test_anything_else_has_none(tmp_path, content):
    torch.save(content, tmp_path / "rows.pt")
    assert matrix_width(tmp_path / "rows.pt") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x80\x02}q\x00."])
def test_a_missing_or_damaged_file_has_none(tmp_path, content):
    assert matrix_width(tmp_path / "missing.pt") is None
    (tmp_path / "damaged.pt").write_bytes(content)
    assert matrix_width(tmp_path / "damaged.pt") is None


def test_an_archive_that_would_run_code_is_only_looked_at(tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save(Payload(), tmp_path / "rows.pt")
    assert matrix_width(tmp_path / "rows.pt") is None
    assert not (tmp_path / "ran").exists()


def test_it_does_not_load_pytorch():
    check = "import frozenalign.data.tensor_header, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0

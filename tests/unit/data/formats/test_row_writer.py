"""A tensor written in chunks has the bytes that torch.save writes of it, and takes no memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenalign.data.formats.row_writer import write_tensor
from frozenalign.data.rows import open_rows

ROOT = Path(__file__).parents[4]
# A map of the file would count as memory as well.
LARGE = """
import resource, sys
sys.path.insert(0, "workflow/lib")
from pathlib import Path
from frozenalign.data.formats.opening import open_source
from frozenalign.data.formats.row_writer import write_tensor
from frozenalign.data.formats.sources import find_source
folder, *paths = map(Path, sys.argv[1:])
write_tensor(folder / "small.pt", (1, 1), "float32", [b"\\0" * 4])
opened = [open_source(find_source(str(path), "images")) for path in paths]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for rows in opened:
    write_tensor(folder / "rows.pt", (rows.rows, rows.width), rows.number, rows.chunks())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("number", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (301, 130), (1, 70_000), (70_000, 2)])
def test_the_bytes_are_those_of_torch_save(tmp_path, shape, number):
    rows = torch.randn(shape).to(getattr(torch, number))
    (tmp_path / "saved").mkdir()
    torch.save(rows, tmp_path / "saved" / "rows.pt")
    chunks = (part.view(torch.uint8).numpy() for part in rows.split(100))
    write_tensor(tmp_path / "rows.pt", shape, number, chunks)
    assert (tmp_path / "rows.pt").read_bytes() == (tmp_path / "saved" / "rows.pt").read_bytes()
    assert torch.equal(open_rows(tmp_path / "rows.pt").read(0, shape[0]), rows)


@pytest.mark.parametrize("rows", [4, 6])
def test_more_or_fewer_rows_than_announced_are_a_fault(tmp_path, rows):
    with pytest.raises(ValueError, match="announced"):
        write_tensor(tmp_path / "rows.pt", (5, 2), "float32", [np.zeros((rows, 2), np.float32)])


def test_memory_holds_no_more_than_chunks(tmp_path):
    pytest.importorskip("h5py")
    rows = np.random.default_rng(0).random((15_000, 2_000), dtype=np.float32)
    for suffix, write in WRITERS.items():
        write(tmp_path / f"rows{suffix}", rows)
    command = [sys.executable, "-c", LARGE, tmp_path, *(tmp_path / f"rows{suffix}" for suffix in WRITERS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < rows.nbytes / 1024 / 2


def write_parquet(path, rows):
    pa = pytest.importorskip("pyarrow")
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    pytest.importorskip("pyarrow.parquet").write_table(pa.table({"rows": column}), path)


def write_hdf5(path, rows):
    with pytest.importorskip("h5py").File(path, "w") as file:
        file["rows"] = rows


WRITERS = {
    ".npy": np.save,
    ".npz": np.savez,
    ".parquet": write_parquet,
    ".h5": write_hdf5,
    ".safetensors": lambda path, rows: pytest.importorskip("safetensors.numpy").save_file({"rows": rows}, path),
}

"""The library installed by pip is used from any folder, without the workflow."""

import shutil
import subprocess
import sys

import pytest

from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.models.model_file import save_heads
from tests.workflow.conftest import ROOT

pytestmark = pytest.mark.slow

LOAD = """
import sys
sys.path.insert(0, sys.argv[1])
from frozenalign import load_heads
import frozenalign
model, facts = load_heads("model.pt")
print(frozenalign.__file__.startswith(sys.argv[1]), type(model.head).__name__, facts)
"""


def test_an_installed_library_loads_a_head(tmp_path):
    source, installed, elsewhere = (tmp_path / name for name in ("source", "installed", "elsewhere"))
    elsewhere.mkdir()
    shutil.copytree(ROOT / "workflow" / "lib", source / "workflow" / "lib")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", installed, source], check=True, capture_output=True)
    save_heads(elsewhere / "model.pt", DualEncoder({"type": "mlp", "output_dim": 4}, 12, 9), {"experiment": "mine"})
    command = [sys.executable, "-I", "-c", LOAD, installed]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=True)
    assert done.stdout == "True MLPTower {'experiment': 'mine'}\n"

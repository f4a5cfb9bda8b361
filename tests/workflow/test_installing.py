"""The library installed by pip is used from any folder, without the workflow."""

import shutil
import subprocess
import sys

import pytest

from frozenalign.serving.export import export
from tests.unit.serving.conftest import random_model, save_run
from tests.workflow.conftest import ROOT

pytestmark = pytest.mark.slow

LOAD = """
import sys
sys.path.insert(0, sys.argv[1])
from frozenalign import AlignedModel, load_heads
import frozenalign
model, facts = load_heads("best_model.pt")
print(frozenalign.__file__.startswith(sys.argv[1]), type(model.head).__name__, facts["experiment"])
import torch
rows = torch.randn(5, 12)
exported = AlignedModel.from_pretrained("export", device="cpu")
print(torch.allclose(exported.project_images(rows), model.encode_images(rows), atol=1e-5), exported.facts["kind"])
from frozenalign.configuration.schemas import read_schema
print(sorted(read_schema("encoder")["required"]))
from pathlib import Path
from frozenalign.reporting.page import TEMPLATES
from frozenalign.serving.export import export
from frozenalign.serving.result_page import PAGES
export(Path("again"), Path("best_model.pt"), None, None, with_onnx=False)
card, board = Path("again") / "README.md", TEMPLATES / "sections" / "board.html.jinja"
print(card.exists(), board.exists(), any(PAGES.glob("*.jinja")))
"""


def test_an_installed_library_loads_a_head_and_exports_it(tmp_path):
    source, installed, elsewhere = (tmp_path / name for name in ("source", "installed", "elsewhere"))
    elsewhere.mkdir()
    shutil.copytree(ROOT / "workflow" / "lib", source / "workflow" / "lib")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", installed, source], check=True, capture_output=True)
    path = save_run(elsewhere, random_model("mlp"))
    export(elsewhere / "export", path, None, None, with_onnx=False)
    command = [sys.executable, "-I", "-c", LOAD, installed]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "True MLPTower tried",
        "True head",
        "['modality', 'name', 'width']",
        "True True True",
    ]

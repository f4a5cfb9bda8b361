"""A head is added as the README says, word for word: a class and its settings. The chain takes it to its metrics."""

import json
import re

import pytest

from tests.workflow.conftest import ROOT, copy_of_the_project

pytestmark = pytest.mark.slow

IMPORTS = """
from torch import nn

from frozenalign.configuration.parameters import PositiveInt
from frozenalign.models.registry import register_head


"""


def readme_block(language: str, marker: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return next(block for block in blocks if marker in block)


def test_the_ten_lines_of_the_readme_add_a_head(tmp_path):
    project = copy_of_the_project(tmp_path)
    code = readme_block("python", "@register_head")
    assert len(code.strip().splitlines()) <= 10
    project.write("workflow/lib/frozenalign/models/bottleneck.py", IMPORTS + code)
    project.write("config/experiments/bottleneck.yaml", readme_block("yaml", "bottleneck"))
    target = "results/demo/bottleneck/seed0/evaluation_results/metrics.json"
    project.snakemake("--config", "experiments=[bottleneck]", "--", target)
    metrics = json.loads(project.read(target))
    assert metrics["experiment"] == "bottleneck"
    assert metrics["full"]["RSUM"] > 60

    refused = project.run("snakemake", "-n", "--config", "experiments=[wrong]")
    assert refused.returncode != 0
    project.write("config/experiments/wrong.yaml", "model: {type: bottleneck, hiden_dim: 3}\nloss: {type: clip}\n")
    refused = project.run("snakemake", "-n", "--config", "experiments=[wrong]")
    assert "did you mean hidden_dim?" in refused.stdout + refused.stderr

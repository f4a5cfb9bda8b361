"""Files of an older or a newer version: read, or refused with what to do."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from workflow.lib.dual_encoder import load_heads
from workflow.lib.errors import UserError
from workflow.lib.results import read_result

FILES = [
    "split/manifest.json",
    "train/run.json",
    "train/loss_history.json",
    "train/resolved_config.yaml",
    "evaluate/metrics.json",
    "evaluate/examples.json",
    "evaluate/worst_queries.json",
]


@pytest.mark.parametrize("name", FILES)
def test_every_result_carries_the_format_that_is_read(name, chain):
    assert read_result(chain.results / name)["format"] == 1


@pytest.mark.parametrize("found", [0, 2, "1", True, None])
@pytest.mark.parametrize("name", FILES)
def test_another_format_is_refused_with_the_step_to_run(name, found, chain, tmp_path):
    path = tmp_path / Path(name).name
    content = yaml.safe_load((chain.results / name).read_text())
    content |= {"format": found}
    if found is None:
        del content["format"]
    path.write_text(json.dumps(content))
    shown = "'none'" if found is None else repr(found)
    with pytest.raises(UserError) as refused:
        read_result(path)
    assert str(refused.value) == (
        f"{path} has the format {shown}, this version reads 1: delete the file and run the step that writes it again"
    )


def test_a_model_of_another_format_is_refused_with_the_step_to_run(chain, tmp_path):
    path = tmp_path / "best_model.pt"
    shutil.copy(chain.results / "train" / "best_model.pt", path)
    torch.save(torch.load(path, weights_only=True) | {"format": 2}, path)
    with pytest.raises(UserError, match=r"best_model.pt has format 2, this version reads 1: .*train"):
        load_heads(path)

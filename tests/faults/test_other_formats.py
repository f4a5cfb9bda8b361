"""Files of an older or a newer version: read, or refused with what to do."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from frozenalign.configuration.result_files import read_result
from frozenalign.models.model_file import load_heads
from frozenalign.system.errors import UserError

FORMATS = {
    "split/manifest.json": 2,
    "train/run.json": 2,
    "train/loss_history.json": 1,
    "train/resolved_config.yaml": 1,
    "tune/study.json": 2,
    "evaluate/metrics.json": 2,
    "evaluate/examples.json": 2,
    "evaluate/worst_queries.json": 1,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_result_carries_the_format_that_is_read(name, chain):
    assert read_result(chain.results / name)["format"] == FORMATS[name]


@pytest.mark.parametrize("found", [0, 3, "1", True, None])
@pytest.mark.parametrize("name", FORMATS)
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
        f"{path} has the format {shown}, this version reads {FORMATS[name]}: delete the file and run the step "
        "that writes it again"
    )


def test_a_model_of_another_format_is_refused_with_the_step_to_run(chain, tmp_path):
    path = tmp_path / "best_model.pt"
    shutil.copy(chain.results / "train" / "best_model.pt", path)
    torch.save(torch.load(path, weights_only=True) | {"format": 1}, path)
    with pytest.raises(UserError, match=r"best_model.pt has format 1, this version reads 2: .*train"):
        load_heads(path)

"""The workflow used from elsewhere: as a module, by include, with its Snakefile in another folder."""

from pathlib import Path

import pytest

from tests.conftest import related_embeddings, write_set
from tests.workflow.conftest import ROOT, Project

pytestmark = pytest.mark.slow

CONFIGURATION = """
dataset: mine
datasets: {mine: {dir: data/mine, split: {fractions: {train: 0.5, val: 0.25, test: 0.25}}}}
experiments: []
baselines: [cca]
tuning: []
"""
MODULE = f"""
configfile: "mine.yaml"
module align:
    snakefile: "{ROOT}/Snakefile"
    config: config
use rule * from align as align_*
rule all:
    default_target: True
    input: rules.align_all.input
"""


@pytest.fixture
def host(tmp_path) -> Project:
    """A folder of a user's own with a configuration and embeddings, and nothing of this project."""
    project = Project(tmp_path / "a host")
    images, texts, ids = related_embeddings(80, 2)
    write_set(project.folder / "data/mine", images, texts, {"image_ids": ids})
    (project.folder / "config").mkdir()
    project.write("config/config.yaml", CONFIGURATION)
    project.write("mine.yaml", CONFIGURATION)
    return project


@pytest.mark.parametrize(
    ("snakefile", "text", "arguments"),
    [
        ("Snakefile", MODULE, ()),
        ("included.smk", f'include: "{ROOT}/Snakefile"\n', ("-s", "included.smk", "all")),
        ("unused.smk", "", ("-s", f"{ROOT}/Snakefile")),
    ],
    ids=["module", "include", "Snakefile elsewhere"],
)
def test_the_code_is_found_from_where_it_stands(host, snakefile, text, arguments):
    host.write(snakefile, text)
    host.snakemake(*arguments)
    page = host.read("results/mine/report/index.html")
    assert "mine: which head aligns the encoders best?" in page
    assert Path(host.folder / "results/mine/cca/seed0/best_model.pt").is_file()
    assert "Nothing to be done" in host.snakemake("-n", *arguments)

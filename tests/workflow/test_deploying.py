"""The workflow used from elsewhere: as a module, by include, with its Snakefile, its folder or its files elsewhere."""

import importlib.util
import shutil
from dataclasses import dataclass

import pytest

from tests.conftest import related_embeddings, write_set
from tests.workflow.conftest import ROOT, Project

pytestmark = pytest.mark.slow

OWN = """
dataset: mine
datasets: {mine: {dir: data/mine, split: {fractions: {train: 0.5, val: 0.25, test: 0.25}}}}
experiments: [own]
baselines: [cca]
tuning: []
device: cpu
"""
DEMO = OWN.replace("dir: data/mine", "dir: data/mine, generate: {images: 60, captions: 2}")
EXPERIMENT = "model: {type: linear, init: cca}\nloss: {type: clip}\ntraining: {num_epochs: 1, batch_size: 32}\n"
MODULE = f"""
configfile: "config/config.yaml"
module other:
    snakefile: "{ROOT}/Snakefile"
    config: config
    {{prefix}}
use rule * from other as other_*
rule all:
    default_target: True
    input: rules.other_trained.input
"""


@dataclass(frozen=True)
class Way:
    """How a project uses the workflow: the text of its own Snakefile, arguments, and where results then lie."""

    snakefile: str
    arguments: tuple[str, ...]
    results: str = "results"


STORAGE = ("--default-storage-provider", "fs", "--default-storage-prefix", "stored")
WAYS = {
    "module": Way(MODULE.format(prefix=""), ()),
    "module with prefix": Way(MODULE.format(prefix='prefix: "alignment"'), (), "alignment/results"),
    "include": Way(f'include: "{ROOT}/Snakefile"\n', ("trained",)),
    "Snakefile elsewhere": Way("", ("-s", f"{ROOT}/Snakefile", "trained")),
    "storage": Way("", ("-s", f"{ROOT}/Snakefile", *STORAGE, "--", "trained"), "stored/results"),
}


@pytest.fixture
def host(tmp_path) -> Project:
    """A folder of a user's own with a configuration and one experiment, and nothing of this project."""
    project = Project(tmp_path / "a host")
    (project.folder / "config/experiments").mkdir(parents=True)
    project.write("config/experiments/own.yaml", EXPERIMENT)
    return project


CASES = [
    *(pytest.param(name, DEMO, id=name) for name in WAYS),
    *(pytest.param(name, OWN, id=f"{name}, own data") for name in ("module with prefix", "storage")),
]


@pytest.mark.parametrize(("name", "configuration"), CASES)
def test_the_first_steps_run_each_way(host, name, configuration):
    way = WAYS[name]
    there = importlib.util.find_spec("snakemake_storage_plugin_fs") and shutil.which("rsync")
    if name == "storage" and not there:
        pytest.skip("snakemake-storage-plugin-fs or rsync is not installed")
    host.write("config/config.yaml", configuration)
    host.write("Snakefile", way.snakefile)
    if configuration == OWN:
        images, texts, ids = related_embeddings(60, 2)
        write_set(host.folder / "data/mine", images, texts, {"image_ids": ids})
    host.snakemake(*way.arguments)
    for experiment in ("cca", "own"):
        assert (host.folder / way.results / f"mine/{experiment}/seed0/best_model.pt").is_file(), experiment
    assert "Nothing to be done" in host.snakemake("-n", *way.arguments)


def test_a_whole_run_in_another_directory_leaves_the_present_one_alone(host, tmp_path):
    host.write("config/config.yaml", DEMO)
    empty = Project(tmp_path / "empty")
    empty.folder.mkdir()
    where = ("-s", f"{ROOT}/Snakefile", "--directory", str(host.folder))
    empty.snakemake(*where)
    assert "mine: which head aligns the encoders best?" in host.read("results/mine/report/index.html")
    assert "Nothing to be done" in empty.snakemake("-n", *where)
    assert list(empty.folder.iterdir()) == []

"""Folders with unusual names: Snakemake plans and quotes them, and the whole chain runs in them."""

import itertools
import json
import shlex
import shutil

import pytest
import torch

from tests.faults.hostile import MARK, NAMES
from tests.workflow.conftest import Project, copy_of_the_project

FOLDER = f"-a 'b' \"c\" $(touch {MARK}) `touch {MARK}`;touch {MARK}&|*?[x]%s#\n!\\ü~"


def small_data(project: Project, folder: str) -> None:
    generator = torch.Generator().manual_seed(0)
    (project.folder / folder).mkdir(parents=True)
    for kind in ("image", "text"):
        rows = torch.randn(80, 8, generator=generator)
        torch.save(rows, project.folder / folder / f"train2017_{kind}_embeddings.pt")
    names = [name.encode(errors="replace").decode().replace("\x00", "") for name in NAMES if len(name) < 200]
    image_ids = [f"{name}{i}" for i, name in zip(range(80), itertools.cycle(names), strict=False)]
    described = {"image_ids": image_ids, "captions": image_ids}
    (project.folder / folder / "train2017_metadata.json").write_text(json.dumps(described))


def small_run(folder: str, **changes) -> str:
    split_settings = {"fractions": {"train": 0.6, "val": 0.2, "test": 0.2}}
    run = {"dataset": "own", "datasets": {"own": {"dir": folder, "split": split_settings}}, "device": "cpu"}
    return json.dumps(run | {"experiments": [], "baselines": ["cca"], "tuning": []} | changes)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project in a folder with an unusual name, its data in a folder with another one."""
    project = copy_of_the_project(tmp_path_factory.mktemp(f'it\'s a "project" $(touch {MARK});&'))
    small_data(project, FOLDER)
    project.write("config/config.yaml", small_run(FOLDER))
    return project


def marks(project: Project) -> list:
    return list(project.folder.parent.rglob(MARK))


def test_folders_with_unusual_names_are_planned_and_quoted(project):
    said = project.snakemake("-n", "-p")
    assert shlex.quote(FOLDER) in said
    assert not marks(project)


@pytest.mark.soak
def test_the_whole_chain_runs_in_folders_with_unusual_names_and_has_no_other_effect(project):
    variants = {"quick_test": {"plain": {"model.skip": "none"}}}
    names = {"experiments": ["quick_test"], "variants": variants, "ensembles": {"both": ["quick_test"]}}
    assignments = {each: ["train", "val", "test"][i % 3] for i, each in enumerate(image_ids(project))}
    (project.folder / FOLDER / "assigned.json").write_text(json.dumps(assignments))
    run = json.loads(small_run(FOLDER, **names))
    run["datasets"]["own"]["split"] = {"assignments": f"{FOLDER}/assigned.json"}
    project.write("config/chain.yaml", json.dumps(run))
    said = project.snakemake("--configfile", "config/chain.yaml")
    assert (project.folder / "results" / "own" / "report" / "index.html").exists(), said
    assert not marks(project)
    assert project.stale_jobs("--configfile", "config/chain.yaml") == {}
    shutil.rmtree(project.folder / "results")


def image_ids(project: Project) -> list[str]:
    return json.loads((project.folder / FOLDER / "train2017_metadata.json").read_text())["image_ids"]


@pytest.mark.soak
@pytest.mark.parametrize("folder", ["~", "-x", "a\nb", "temp(x)", "s3:/b", "%s", "\\t", "a//b/"])
def test_a_folder_that_snakemake_could_take_for_something_else_is_read_as_it_is(project, folder):
    small_data(project, f"in/{folder}") if not folder.startswith(("~", "-")) else small_data(project, folder)
    name = folder if folder.startswith(("~", "-")) else f"in/{folder}"
    project.write("config/one.yaml", small_run(name))
    project.snakemake("results/own/split/manifest.json", "--configfile", "config/one.yaml")
    assert json.loads(project.read("results/own/split/manifest.json"))["images"] == 80
    shutil.rmtree(project.folder / "results")
    shutil.rmtree(project.folder / name)

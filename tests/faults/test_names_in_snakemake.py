"""Hostile names and folders before Snakemake itself: refused before any job, or planned, quoted and run as they are."""

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
    """A project in a folder with a hostile name, with data in a folder that has another one."""
    project = copy_of_the_project(tmp_path_factory.mktemp(f'it\'s a "project" $(touch {MARK});&'))
    small_data(project, FOLDER)
    project.write("config/config.yaml", small_run(FOLDER))
    return project


def marks(project: Project) -> list:
    return list(project.folder.parent.rglob(MARK))


def refused(project: Project, *arguments: str) -> str:
    done = project.run("snakemake", "--cores", "1", "-n", *arguments)
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "Traceback" not in said
    assert "Job stats" not in said
    assert not (project.folder / "results").exists()
    assert not marks(project)
    return said


def test_folders_with_hostile_names_are_planned_and_quoted(project):
    said = project.snakemake("-n", "-p")
    assert shlex.quote(FOLDER) in said
    assert not marks(project)


def test_a_data_set_of_the_command_line_with_a_hostile_name_is_refused(project):
    assert "dataset: found" in refused(project, "--config", f"dataset=$(touch {MARK})")


def test_a_configuration_file_makes_no_objects(project):
    path = project.folder / "config" / "evil.yaml"
    path.write_text(f"dataset: !!python/object/apply:os.system ['touch {MARK}']\n")
    refused(project, "--configfile", "config/evil.yaml")


@pytest.mark.soak
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["experiments=['{experiment}']"], "experiments.0: found '{experiment}'"),
        (["experiments=['*']"], "experiments.0: found '*'"),
        (["experiments=[report]"], "experiments: found 'report'"),
        (["experiments=[tuned-x]"], "experiments: found 'tuned-x'"),
        (["tuning=['../up']"], "tuning.0: found '../up'"),
        (["datasets={own: {dir: '{input}'}}"], "datasets.own.dir: found '{input}'"),
        (["datasets={own: {dir: 'data/<logs>'}}"], "datasets.own.dir: found 'data/<logs>'"),
        (["datasets={own: {dir: absent, split: {assignments: 'a{b}'}}}"], "split.assignments: found 'a{b}'"),
        (["datasets={'a;b': {dir: absent}}"], "datasets: found 'a;b'"),
        (["ensembles={'$(touch pwned)': [clip]}"], "ensembles: found '$(touch pwned)'"),
        (["experiments=[clip]", "variants={clip: {'a b': {model.skip: none}}}"], "variants.clip: found 'a b'"),
    ],
)
def test_a_hostile_name_stops_the_run_before_any_job(project, arguments, said):
    assert said in refused(project, "--config", *arguments)


@pytest.mark.soak
def test_the_whole_chain_runs_with_hostile_folders_and_has_no_other_effect(project):
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

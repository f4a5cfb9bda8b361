"""A user's files in the places of demo data: the run stops and says so, whatever the flags; nothing is replaced."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import related_embeddings, write_set
from tests.workflow.conftest import Project, copy_of_the_project, write_with_its_old_time

pytestmark = pytest.mark.slow

# As a user writes it who has not seen that `demo` is generated: config.yaml, which it adds to, says so.
OWN = "datasets: {demo: {dir: data/own}}\n"
FOREIGN = "has not written and would replace: give the data set another name than demo, or set `generate: null` for it"
FEW = "datasets: {demo: {generate: {images: 30, captions: 2}}}\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project with a user's embeddings in data/own and demo data in data/demo."""
    project = copy_of_the_project(tmp_path_factory.mktemp("own"))
    images, texts, ids = related_embeddings(60, 3)
    write_set(project.folder / "data/own", images, texts, {"image_ids": ids})
    project.write("own.yaml", OWN)
    project.write("few.yaml", FEW)
    project.snakemake("--until", "merge_encodings", "--configfile", "few.yaml")
    return project


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(project: Project, *arguments: str) -> str:
    """Return what Snakemake says when it refuses the user's files, every one of which is kept."""
    before = contents(project.folder / "data")
    done = project.run("snakemake", "--cores", "2", *arguments)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert FOREIGN in said
    assert contents(project.folder / "data") == before
    return said


@pytest.mark.parametrize("flags", [[], ["-F"], ["--until", "demo_data"], ["--delete-all-output"]], ids=" ".join)
def test_a_run_with_any_flag_stops_before_embeddings_of_ones_own(project, flags):
    said = refusal(project, *flags, "--configfile", "own.yaml")
    assert "data/own holds train2017_image_embeddings.pt, train2017_text_embeddings.pt, train2017_metadata.json" in said


def test_the_script_by_hand_stops_before_them_as_well(project):
    before = contents(project.folder / "data/own")
    shards, places = "results/demo/encode", ("--captions", "data/demo/captions.json", "--pictures", "data/demo/images")
    jobs = [word for kind in ("images", "texts") for word in (f"--{kind}", f"{shards}/{kind}/1-of-1.json")]
    script = ("python", "-m", "workflow.scripts.merge_encodings")
    done = project.run(*script, *jobs, *places, "--output-dir", "data/own")
    assert done.returncode == 1
    assert done.stderr.startswith("error: data/own holds train2017_image_embeddings.pt, ")
    assert "choose another folder" in done.stderr
    assert contents(project.folder / "data/own") == before


def test_generate_null_reads_what_is_there(project):
    project.write("read.yaml", OWN.replace("data/own", "data/own, generate: null"))
    assert project.stale_jobs("splits", "--configfile", "read.yaml") == {"split": 1, "splits": 1}


def test_demo_data_are_made_again_after_a_change_and_never_over_a_file_that_somebody_put_there(project):
    code = project.read("workflow/scripts/demo_data.py")
    few = ("--until", "merge_encodings", "--configfile", "few.yaml")
    project.write("workflow/scripts/demo_data.py", code + "# changed\n")
    own = project.folder / "data/demo/images/own.png"
    own.write_bytes(b"mine")
    assert "data/demo holds images/own.png, which" in refusal(project, *few)
    own.unlink()

    rows = project.folder / "data/demo/train2017_image_embeddings.pt"
    before = rows.read_bytes()
    write_with_its_old_time(rows, before[::-1])
    assert "data/demo holds train2017_image_embeddings.pt, which" in refusal(project, *few)
    write_with_its_old_time(rows, before)

    shutil.copytree(project.folder / "data/demo", project.folder / "data/copy")
    shutil.rmtree(project.folder / "data/demo")
    (project.folder / "data/copy").rename(project.folder / "data/demo")
    project.snakemake(*few)
    assert rows.read_bytes() == before

"""Photographs of a user's own: encoded by as many jobs as asked for, and again where their content says so."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.workflow.conftest import Project, copy_of_the_project, write_with_its_old_time
from workflow.scripts import demo_data

pytestmark = pytest.mark.slow

CONFIGURATION = """
dataset: photos
datasets:
  photos:
    dir: data/photos
    encode:
      images: photographs/images
      captions: photographs/captions.json
      image_encoder: pictures
      text_encoder: words
      jobs: 2
    split: {fractions: {train: 0.6, val: 0.2, test: 0.2}, tuning_pairs: 50}
experiments: []
baselines: [cca]
tuning: []
device: cpu
evaluation_sets:
  crepe: {kind: hard_negatives, pictures: photographs/images, file: photographs/negatives.json}
"""
AFTER = {"merge_encodings": 1, "split": 1, "baselines": 1, "evaluate": 1, "evaluate_sets": 1, "figures": 1, "report": 1}
IMAGES, TEXTS, SET = {"encode_images": 2}, {"encode_texts": 2}, {"encode_evaluation_set": 1}
NEGATIVES = {
    "0": {"filename": "000001.png", "caption": "A large circle.", "negative_caption": "A star."},
    "1": {"filename": "000002.png", "caption": "A red ring.", "negative_caption": "A blue circle."},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    """A project with photographs outside its data folder, run to its end; tests leave it as they found it."""
    project = copy_of_the_project(tmp_path_factory.mktemp("photographs of mine"))
    project.write("config/config.yaml", CONFIGURATION)
    for name, shipped in (("pictures", "demo-pictures"), ("words", "demo-words")):
        project.write(f"config/encoders/{name}.yaml", project.read(f"config/encoders/{shipped}.yaml"))
    place = str(project.folder / "photographs")
    demo_data.main(["--output-dir", place, "--images", "60", "--captions", "2"])
    project.write("photographs/negatives.json", json.dumps(NEGATIVES))
    project.snakemake()
    return project


def test_the_set_its_record_and_the_report_are_there(finished):
    record = json.loads(finished.read("data/photos/encoding.json"))
    assert (record["images"]["rows"], record["texts"]["rows"], record["pairs"]) == (60, 120, 120)
    page = finished.read("results/photos/report/index.html")
    assert "encoded by pictures: scenes, revision 0" in page
    assert "data:image/jpeg;base64," in page, "pictures stand in the examples"
    assert "are not shown" not in page
    assert finished.stale_jobs() == {}


def test_an_evaluation_set_is_encoded_alike_and_stands_in_the_report(finished):
    found = json.loads(finished.read("results/photos/cca/seed0/evaluation_sets/sets.json"))["sets"]["crepe"]
    assert (found["counts"], found["chance"], found["warnings"]) == ({"rows": 2, "images": 2}, {"accuracy": 50.0}, [])
    page = finished.read("results/photos/report/index.html")
    assert "crepe: hard negatives" in page
    assert "results/photos/evaluation_sets/crepe: 2 rows, 2 images." in page


def test_touched_and_copied_pictures_and_captions_rerun_nothing(finished, tmp_path):
    for path in (finished.folder / "photographs").rglob("*"):
        os.utime(path)
    assert finished.stale_jobs() == {}
    copy = Project(tmp_path / "copy")
    shutil.copytree(finished.folder, copy.folder)
    assert copy.stale_jobs() == {}


@pytest.mark.parametrize(
    ("name", "jobs"),
    [
        ("photographs/images/000007.png", IMAGES | SET | AFTER),
        ("photographs/captions.json", IMAGES | TEXTS | AFTER),
        ("photographs/negatives.json", SET | {"evaluate_sets": 1, "report": 1}),
        ("config/encoders/pictures.yaml", IMAGES | SET | AFTER),
        ("config/encoders/words.yaml", TEXTS | SET | AFTER),
    ],
)
def test_another_content_encodes_what_it_decides_again(finished, name, jobs):
    path = finished.folder / name
    before = path.read_bytes()
    if path.suffix == ".png":
        other = path.with_name("000009.png").read_bytes()
    else:
        other = before.replace(b"ircle", b"isc") if path.suffix == ".json" else before + b"prompt: see\n"
    write_with_its_old_time(path, other)
    try:
        assert finished.stale_jobs() == jobs
    finally:
        write_with_its_old_time(path, before)
    assert finished.stale_jobs() == {}


def test_an_own_file_in_the_place_of_the_set_stops_the_run_and_is_kept(finished, tmp_path):
    path = finished.folder / "data/photos/train2017_text_embeddings.pt"
    before = path.read_bytes()
    path.write_bytes(b"mine")
    try:
        done = finished.run("snakemake", "--cores", "2", "-F", "splits")
        assert done.returncode
        assert "data/photos holds train2017_text_embeddings.pt, which merge_encodings has not" in done.stderr
        assert path.read_bytes() == b"mine"
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("images: photographs/absent", "photographs/absent is no folder: check `datasets.photos.encode.images`"),
        ("captions: photographs/absent.json", "photographs/absent.json not found: check `datasets.photos.encode.capt"),
        ("image_encoder: absent", "config/encoders/absent.yaml not found: check the name, or write the file"),
        (
            "crepe: {kind: hard_negatives, file: absent.json}",
            "absent.json not found: check `evaluation_sets.crepe.file`",
        ),
        ("text_encoder: pictures", "pictures.yaml is an encoder of images: name one of texts, or of both"),
    ],
)
def test_mistakes_stop_the_run_before_its_first_job(finished, change, said):
    key = change.partition(":")[0]
    lines = [change if line.strip().startswith(f"{key}:") else line for line in CONFIGURATION.splitlines()]
    text = "\n".join(f"{'  ' if key == 'crepe' else '      '}{line}" if line == change else line for line in lines)
    finished.write("wrong.yaml", text)
    try:
        done = finished.run("snakemake", "--cores", "2", "-n", "--configfile", "wrong.yaml")
    finally:
        (finished.folder / "wrong.yaml").unlink()
    assert done.returncode
    assert said in done.stdout + done.stderr


def test_a_broken_picture_stops_the_run_in_one_sentence_and_is_dropped_on_request(finished, tmp_path):
    copy = Project(tmp_path / "broken")
    shutil.copytree(finished.folder, copy.folder)
    (copy.folder / "photographs/images/000007.png").write_bytes(b"no picture")
    done = copy.run("snakemake", "--cores", "2", "splits")
    assert done.returncode
    assert "1 of the pictures 1 to 60 cannot be read, the first is photographs/images/000007.png" in done.stderr
    copy.write("config/config.yaml", CONFIGURATION.replace("jobs: 2", "on_error: drop"))
    copy.snakemake("splits")
    record = json.loads(copy.read("data/photos/encoding.json"))
    assert (record["images"]["rows"], record["pairs"], record["dropped_pairs"]) == (59, 118, 2)
    assert list(record["refused_pictures"]) == ["7"]
    manifest = json.loads(copy.read("results/photos/split/manifest.json"))
    assert manifest["encoding"]["images"]["refused"] == 1


def test_the_jobs_log_says_what_was_encoded(finished):
    log = finished.read("results/photos/logs/encode_images-1-of-2.log")
    assert "60 pictures in 1 shards" in log
    assert Path(finished.folder / "results/photos/encode/images/1-of-2.json").exists()


OTHERS = 'texts: {others: {encoder: words, revision: "1"}}'
ONE_MORE = f"encodings: {{{OTHERS}}}\n"
TWO_MORE = f"encodings: {{{OTHERS}, images: {{coarse: {{encoder: pictures, image_size: 32}}}}}}\n"
PAGE = "results/photos/encodings/index.html"


def planned(project: Project, *arguments: str) -> dict[str, int]:
    """Return how many jobs of each rule a dry run lists, those of a pair with its name before theirs."""
    table = project.snakemake("-n", *arguments).split("Job stats:")[1].split("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\S+)\s+(\d+)$", table, re.MULTILINE)}


def test_further_encodings_of_the_same_photographs_are_compared_on_one_page(finished, tmp_path):
    copy = Project(tmp_path / "encodings")
    shutil.copytree(finished.folder, copy.folder)
    copy.write("config/config.yaml", CONFIGURATION + ONE_MORE)
    pair = "photos-pictures-others"
    assert planned(copy) == {
        **{f"{pair}_encode_texts": 2, f"{pair}_merge_encodings": 1, f"{pair}_split": 1, f"{pair}_baselines": 1},
        **{f"{pair}_evaluate": 1, f"{pair}_compare_encoders": 1},
        **{"compare_encoders": 1, "encodings": 1, "report": 1, "all": 1},
    }, "the pair shares the pictures' rows, and the data set's own results stay"
    said = copy.snakemake("-n", "--set-threads", "evaluate=2", "--set-resources", "baselines:runtime=77")
    of_rules = {block.partition(":")[0]: block for block in re.split(r"^(?:local)?rule ", said, flags=re.MULTILINE)}
    assert "threads: 2" in of_rules[f"{pair}_evaluate"], "as a profile asks by the name of the rule"
    assert "runtime=77" in of_rules[f"{pair}_baselines"]
    copy.snakemake("all", "encoder_similarity")
    own, further = (json.loads(copy.read(f"results/{name}/split/manifest.json")) for name in ("photos", pair))
    assert own["rows"] == further["rows"], "divided alike"
    files = ("train2017_image_embeddings.pt", "train2017_text_embeddings.pt")
    assert [own["hashes"][name] == further["hashes"][name] for name in files] == [True, False]
    assert [each["encoding"]["texts"]["encoder"] for each in (own, further)] == ["words", "others"]
    table = copy.read("results/photos/encodings/encoder_similarity.csv")
    assert sorted(line.partition(",")[2].partition(",")[0] for line in table.splitlines()) == [
        "others",
        "texts",
        "words",
    ]
    page = copy.read(PAGE)
    assert "Of 2 pairs of an image encoding and a text encoding" in page
    assert "cca" in copy.read("results/photos/encodings/encodings.csv")
    assert '<a href="../../photos/encodings/index.html">Encodings</a>' in copy.read("results/photos/report/index.html")
    assert "Nothing to be done" in copy.snakemake("-n")

    copy.write("config/config.yaml", CONFIGURATION + TWO_MORE)
    jobs = planned(copy)
    assert {name: count for name, count in jobs.items() if "_encode_" in name} == {
        "photos-coarse-words_encode_images": 2
    }, "one of the two new pairs encodes for both"
    assert {name for name in jobs if name.endswith("_merge_encodings")} == {
        "photos-coarse-words_merge_encodings",
        "photos-coarse-others_merge_encodings",
    }
    assert planned(copy, "photos-coarse-others_all")["photos-coarse-others_report"] == 1
    assert "encoder_similarity" in planned(copy, "encoder_similarity")
    assert not [name for name in planned(copy, "encoder_similarity") if name.endswith(("train", "baselines"))]

"""What the steps wrote, after accidents and edits: indexes, metrics, ranks, histories, trials, settings."""

import functools
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from frozenalign.data.pairs import PairFiles
from frozenalign.data.splits import SplitIndex
from frozenalign.evaluation.uncertainty import resampled_recalls
from frozenalign.reporting import page
from frozenalign.reporting.leaderboard import leaderboard, read_run
from frozenalign.system.files import ARRAY_BYTES
from frozenalign.tuning.trial_tables import read_trials
from tests.faults.conftest import EXPERIMENT
from tests.faults.property import altered, answer, cases, damaged, refusal
from workflow.scripts.report import main as write_report


@pytest.fixture
def run(chain) -> Path:
    """A head that was trained for an epoch and evaluated."""
    return chain.results / "train"


@pytest.fixture
def copy(run, tmp_path) -> Path:
    """A copy of the run that a test may damage."""
    return Path(shutil.copytree(run, tmp_path / "seed0"))


@pytest.fixture(autouse=True)
def _quick_report(monkeypatch):
    """Pages without pictures, of few resamples, from a template compiled once: all that takes time in a report."""
    monkeypatch.setattr(page, "_environment", environment)
    few = functools.partial(resampled_recalls, resamples=50)
    for module in ("leaderboard", "headline"):
        monkeypatch.setattr(f"frozenalign.reporting.{module}.resampled_recalls", few)
    for name in ("sections.training.embedded_plot", "sections.tuning.embedded_plot", "sections.pictures.embedded_plot"):
        monkeypatch.setattr(f"frozenalign.reporting.{name}", lambda path: "")
    monkeypatch.setattr("frozenalign.reporting.figures.leaderboard_figure", lambda *arguments: Figure())
    monkeypatch.setattr("frozenalign.reporting.figures.costs_figure", lambda *arguments: Figure())


environment = functools.cache(page._environment)


def arguments(run: Path, manifest: Path, out: Path) -> list[str]:
    return [
        *("--dataset-name", "small", "--data-dir", str(run), "--manifest", str(manifest)),
        *("--runs", str(run), "--output-dir", str(out)),
    ]


FILES = ["costs.svg", "index.html", "leaderboard.csv", "leaderboard.svg"]


def reported(run: Path, manifest: Path, name: str) -> str | None:
    """Write the report: the page and the table, or one sentence that names the file and neither of them."""
    out = run / "report"
    said = answer(lambda: write_report(arguments(run, manifest, out)), name)
    assert sorted(path.name for path in out.glob("*")) == ([] if said else FILES)
    shutil.rmtree(out, ignore_errors=True)
    return said


RESULTS = {
    "metrics.json": "evaluation_results/metrics.json",
    "examples.json": "evaluation_results/examples.json",
    "worst_queries.json": "evaluation_results/worst_queries.json",
    "run.json": "run.json",
    "loss_history.json": "loss_history.json",
    "resolved_config.yaml": "resolved_config.yaml",
}


def content_of(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RESULTS)
@cases(20)
@given(st.data())
def test_one_value_of_a_result_replaced(run, copy, split_dir, name, data):
    document = data.draw(altered(content_of(run / RESULTS[name])))
    (copy / RESULTS[name]).write_text(json.dumps(document))
    reported(copy, split_dir / "manifest.json", "seed0")


@cases(12)
@given(st.data())
def test_one_value_of_the_manifest_replaced(run, copy, split_dir, data):
    document = data.draw(altered(content_of(split_dir / "manifest.json")))
    (copy / "manifest.json").write_text(json.dumps(document))
    reported(copy, copy / "manifest.json", "manifest.json")


@pytest.mark.parametrize("name", RESULTS)
@cases(12)
@given(st.data())
def test_accidents_of_a_result(run, copy, split_dir, name, data):
    (copy / RESULTS[name]).write_bytes(data.draw(damaged((run / RESULTS[name]).read_bytes())))
    reported(copy, split_dir / "manifest.json", "seed0")


@pytest.mark.soak
@pytest.mark.parametrize("name", RESULTS)
@cases(100, derandomize=False)
@given(st.data())
def test_many_more_accidents_of_a_result(run, copy, split_dir, name, data):
    whole = (run / RESULTS[name]).read_bytes()
    edits = altered(content_of(run / RESULTS[name])).map(lambda document: json.dumps(document).encode())
    (copy / RESULTS[name]).write_bytes(data.draw(st.one_of(edits, damaged(whole))))
    reported(copy, split_dir / "manifest.json", "seed0")


@pytest.mark.parametrize("name", [*RESULTS, "ranks.npz"])
def test_a_missing_result_is_named(copy, split_dir, name):
    (copy / RESULTS.get(name, f"evaluation_results/{name}")).unlink()
    assert "not found" in reported(copy, split_dir / "manifest.json", name)


def test_a_key_that_is_missing_is_named_with_the_remedy(copy, split_dir):
    path = copy / "evaluation_results" / "metrics.json"
    document = json.loads(path.read_text())
    del document["full"]["t2i"]["R@5"]
    path.write_text(json.dumps(document))
    said = reported(copy, split_dir / "manifest.json", "metrics.json")
    assert "full.t2i: the key 'R@5' is missing" in said
    assert said.endswith("delete the file and run the step that writes it again")


def test_half_a_character_in_a_result_is_refused_before_the_page_is_written(copy, split_dir):
    path = copy / "evaluation_results" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"experiment": "\ud800"}))
    assert "half a character" in reported(copy, split_dir / "manifest.json", "metrics.json")


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def ordered(index: SplitIndex) -> None:
    for rows in (index.image_rows, index.text_rows):
        assert rows.dtype == np.int64
        assert rows[0] >= 0
        assert (np.diff(rows) > 0).all()
    assert sorted(set(index.text_image.tolist())) == list(range(len(index.image_rows)))
    assert len(index.text_image) == len(index.text_rows)
    assert (np.diff(index.further_rows, prepend=-1) > 0).all()
    assert len(index.further_image) == len(index.further_rows)
    assert set(index.further_image.tolist()) <= set(range(len(index.image_rows)))


@cases(110)
@given(st.data())
def test_accidents_of_a_split_index(split_dir, tmp_path, data):
    (tmp_path / "val.npz").write_bytes(data.draw(damaged((split_dir / "val.npz").read_bytes())))
    answer(lambda: SplitIndex.load(tmp_path / "val.npz"), "val.npz", ordered)


NO_FURTHER = {"further_rows": np.empty(0, np.int32), "further_image": np.empty(0, np.int32)}
columns = st.one_of(
    st.lists(st.integers(-2, 200), max_size=4).map(lambda rows: np.array(rows, dtype=np.int32)),
    st.lists(st.floats(), max_size=3).map(np.array),
    st.sampled_from(
        [
            np.array([2**63], dtype=np.uint64),
            np.array([[0]]),
            np.array(0),
            np.array([True]),
            np.array(["0"]),
            np.array([None], dtype=object),
            np.array([1j]),
            np.array(["2020-01-01"], dtype="datetime64[D]"),
            np.zeros(1, dtype=[("a", "i4")]),
            np.arange(3, dtype=">i4"),
        ]
    ),
)


@cases(110)
@given(columns, columns, columns, st.sampled_from(["text_image", "text_images", "a/b"]))
def test_arrays_of_any_kind_as_a_split_index(data_dir, tmp_path, images, texts, owners, name):
    (tmp_path / "val.npz").write_bytes(npz(image_rows=images, text_rows=texts, **{name: owners}, **NO_FURTHER))
    answer(lambda: SplitIndex.load(tmp_path / "val.npz"), "val.npz", ordered)


@cases(60)
@given(columns, columns)
def test_arrays_of_any_kind_as_the_further_rows_of_images(tmp_path, further, owners):
    rows = np.arange(3, dtype=np.int32)
    content = npz(image_rows=rows, text_rows=rows, text_image=rows, further_rows=further, further_image=owners)
    (tmp_path / "val.npz").write_bytes(content)
    answer(lambda: SplitIndex.load(tmp_path / "val.npz"), "val.npz", ordered)


def test_rows_beyond_the_files_are_refused(data_dir, tmp_path):
    files = [data_dir / f"train2017_{kind}_embeddings.pt" for kind in ("image", "text")]
    for images, texts, named in (([180], [0], files[0].name), ([0], [180], files[1].name)):
        (tmp_path / "val.npz").write_bytes(npz(image_rows=images, text_rows=texts, text_image=[0], **NO_FURTHER))
        said = refusal(lambda: PairFiles.open(*files, tmp_path / "val.npz"), named)
        assert "has 180 rows but the split names row 180" in said


def claiming(shape: str) -> bytes:
    """Return the head of an array that claims a shape which no data follow."""
    header = f"{{'descr': '<i4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(-1,)", "(10000000000000000000000,)", "(1,) * 99", "('a',)"])
def test_an_array_that_claims_more_than_it_holds(tmp_path, shape):
    with zipfile.ZipFile(tmp_path / "val.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("image_rows", "text_rows", "text_image"):
            archive.writestr(f"{name}.npy", claiming(shape))
    refusal(lambda: SplitIndex.load(tmp_path / "val.npz"), "val.npz")


def test_an_array_that_unpacks_to_more_than_is_read(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "val.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("image_rows.npy", "w") as stream,
    ):
        stream.write(claiming(f"({ARRAY_BYTES // 4},)"))
        for _ in range(ARRAY_BYTES >> 20):
            stream.write(bytes(1 << 20))
    assert (tmp_path / "val.npz").stat().st_size < 2 << 20
    assert "once unpacked" in refusal(lambda: SplitIndex.load(tmp_path / "val.npz"), "val.npz")


@cases(50)
@given(st.data())
def test_accidents_of_ranks(run, copy, data):
    whole = (run / "evaluation_results" / "ranks.npz").read_bytes()
    (copy / "evaluation_results" / "ranks.npz").write_bytes(data.draw(damaged(whole)))
    answer(lambda: leaderboard([read_run(copy)]), "ranks.npz")


@cases(40)
@given(st.data())
def test_any_array_in_place_of_ranks(run, copy, data):
    with np.load(run / "evaluation_results" / "ranks.npz") as archive:
        ranks = dict(archive)
    name = data.draw(st.sampled_from(sorted(ranks)))
    longer = st.lists(st.integers(-1, 40), min_size=len(ranks[name]), max_size=len(ranks[name])).map(np.array)
    ranks[name] = data.draw(st.one_of(columns, longer))
    (copy / "evaluation_results" / "ranks.npz").write_bytes(npz(**ranks))
    answer(lambda: leaderboard([read_run(copy)]), "ranks.npz")


TRIALS = b"""number,state,value,epochs,seconds,reason,model.output_dim
0,COMPLETE,312.5,3,1.5,,64
1,FAIL,,1,0.5,nan loss,32
"""


def whole_table(trials: pd.DataFrame) -> None:
    assert {"number", "state", "value", "epochs", "seconds", "reason"} <= {"epochs", *trials.columns}


@cases(80)
@given(damaged(TRIALS))
def test_accidents_of_a_table_of_trials(tmp_path, content):
    (tmp_path / "trials.csv").write_bytes(content)
    answer(lambda: read_trials(tmp_path / "trials.csv"), "trials.csv", whole_table)


@cases(15)
@given(damaged(TRIALS))
def test_a_report_after_accidents_of_a_table_of_trials(run, chain, split_dir, tmp_path, content):
    study = tmp_path / "quick"
    study.mkdir(exist_ok=True)
    shutil.copy(chain.results / "tune" / "study.json", study)
    (study / "trials.csv").write_bytes(content)
    (study / "best_config.yaml").write_text(EXPERIMENT)
    how = [*arguments(run, split_dir / "manifest.json", tmp_path / "report"), "--studies", str(study)]
    answer(lambda: write_report(how), "trials.csv")


def report_with_study(run: Path, split_dir: Path, study: Path) -> Callable[[], None]:
    """Return how to write a report of one run and one study."""
    how = [*arguments(run, split_dir / "manifest.json", study / "report"), "--studies", str(study)]
    return lambda: write_report(how)


@cases(20)
@given(st.data())
def test_a_report_after_one_value_of_a_studys_inputs_was_replaced_or_damaged(run, chain, split_dir, tmp_path, data):
    study = shutil.copytree(chain.results / "tune", tmp_path / "quick", dirs_exist_ok=True)
    whole = (chain.results / "tune" / "study.json").read_bytes()
    edits = altered(json.loads(whole)).map(lambda document: json.dumps(document).encode())
    (study / "study.json").write_bytes(data.draw(st.one_of(edits, damaged(whole))))
    answer(report_with_study(run, split_dir, study), "quick")


def test_a_study_that_does_not_say_what_it_was_made_from(run, chain, split_dir, tmp_path):
    study = shutil.copytree(chain.results / "tune", tmp_path / "quick")
    report_with_study(run, split_dir, study)()
    (study / "study.json").unlink()
    assert "not found" in refusal(report_with_study(run, split_dir, study), "study.json")


@cases(20)
@given(st.data())
def test_one_value_of_an_ensembles_settings_replaced(run, chain, split_dir, tmp_path, data):
    both = shutil.copytree(chain.results / "ensemble", tmp_path / "both", dirs_exist_ok=True)
    settings = data.draw(altered(content_of(chain.results / "ensemble" / "resolved_config.yaml")))
    (both / "resolved_config.yaml").write_text(json.dumps(settings))
    how = arguments(run, split_dir / "manifest.json", tmp_path / "report")
    how.insert(how.index("--runs") + 1, str(both))
    answer(lambda: write_report(how), "both")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"number\n1\n", b"\x00\xff" * 20, TRIALS.replace(b"312.5", b"best")])
def test_what_is_no_table_of_trials(tmp_path, content):
    (tmp_path / "trials.csv").write_bytes(content)
    refusal(lambda: read_trials(tmp_path / "trials.csv"), "trials.csv")

"""Nothing that the project reads can run code: a payload that would write a file is fed to every reader."""

import ast
import contextlib
import inspect
import io
import json
import pickle
import shutil
import sqlite3
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from frozenalign.configuration.experiments import load_experiment
from frozenalign.configuration.schemas import read_schema
from frozenalign.configuration.studies import load_study
from frozenalign.configuration.variants import changes_from
from frozenalign.configuration.yaml_text import plain_value, read_yaml
from frozenalign.data.assignments import Assignments
from frozenalign.data.embeddings import EmbeddingFiles, check_set, read_metadata
from frozenalign.data.formats.opening import open_source
from frozenalign.data.formats.sources import find_source
from frozenalign.data.rows import open_rows
from frozenalign.data.splits import SplitIndex
from frozenalign.data.tensor_header import matrix_width
from frozenalign.models.model_file import load_heads, read_checkpoint
from frozenalign.reporting.leaderboard import read_run
from frozenalign.reporting.pictures import thumbnail
from frozenalign.reporting.sections.tuning import study
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_arrays, read_json
from frozenalign.training.checkpoints import Checkpoint
from frozenalign.tuning.opening import StudyRun
from frozenalign.tuning.study import run_study

ROOT = Path(__file__).parents[2]
MARK = "unpickled"


class Payload:
    """An object whose unpickling creates a file, and does so without any import that a reader could lack."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    return tmp_path / MARK


def zipped(payload) -> bytes:
    stream = io.BytesIO()
    torch.save(payload, stream)
    return stream.getvalue()


def legacy(payload) -> bytes:
    stream = io.BytesIO()
    torch.save(payload, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def beside_a_tensor(payload) -> bytes:
    return zipped({"rows": torch.zeros(4, 2), "format": 1, "state": payload})


def torchscript(payload) -> bytes:
    """Return an archive that has what PyTorch knows a compiled module by, and the payload where its data stand."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("data.pkl", "constants.pkl"):
            archive.writestr(f"archive/{name}", pickle.dumps(payload))
        archive.writestr("archive/version", "3")
    return stream.getvalue()


def object_array(payload) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([payload], dtype=object), allow_pickle=True)
    return stream.getvalue()


def object_arrays(payload) -> bytes:
    stream = io.BytesIO()
    names = ("image_rows", "text_rows", "text_image", "i2t", "t2i", "caption_image")
    np.savez(stream, **dict.fromkeys(names, np.array([payload], dtype=object)))
    return stream.getvalue()


FORMS = [zipped, legacy, beside_a_tensor, torchscript, pickle.dumps, object_array, object_arrays]
TAGS = [
    "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{mark}']]",
    "!!python/object/apply:os.system ['touch {mark}']",
    "!!python/object/new:os.system ['touch {mark}']",
    "!!python/name:os.system",
    "!!python/module:os",
]
TENSORS = {
    "embeddings": open_rows,
    "their header": matrix_width,
    "embeddings in another form": lambda path: open_source(find_source(str(path), "images")),
    "a head": load_heads,
    "a checkpoint": read_checkpoint,
    "a training's state": lambda path: Checkpoint(path, "fingerprint").read_into(SimpleNamespace()),
    "arrays": read_arrays,
    "a split": SplitIndex.load,
    "a picture": lambda path: thumbnail(path.parent, path.name).uri,
}
TEXTS = {
    "yaml": read_yaml,
    "an experiment": load_experiment,
    "a study": load_study,
    "json": read_json,
    "metadata": lambda path: read_metadata(path, 1000),
    "assignments": lambda path: Assignments.read(path, 1),
    "a change": lambda path: changes_from(f"model.skip={path.read_text()}"),
    "a variant's value": lambda path: plain_value(path.read_text(), "here"),
}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_the_payload_itself_works(form, mark):
    content = form(Payload(mark))
    if form in (object_array, object_arrays):
        loaded = np.load(io.BytesIO(content), allow_pickle=True)
        assert form is object_array or loaded["i2t"] is not None
    elif form is torchscript:
        pickle.loads(zipfile.ZipFile(io.BytesIO(content)).read("archive/data.pkl"))
    else:
        (pickle.loads if form is pickle.dumps else lambda each: torch.load(io.BytesIO(each), weights_only=False))(
            content
        )
    assert mark.exists()


@pytest.mark.filterwarnings("ignore:'torch.load' received a zip file", "ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("reader", TENSORS)
@pytest.mark.parametrize("name", ["rows.pt", "arrays.npz"])
def test_no_reader_of_tensors_and_arrays_unpickles(reader, form, name, tmp_path, mark):
    path = tmp_path / name
    path.write_bytes(form(Payload(mark)))
    try:
        found = TENSORS[reader](path)
    except UserError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
    else:
        # Of a zip file the reader of arrays gives members that are none as the bytes that they are.
        assert reader in ("their header", "a picture", "a training's state", "arrays")
        assert not found or reader == "their header" or {type(value) for value in found.values()} == {bytes}
    assert not mark.exists()


@pytest.mark.parametrize("tag", TAGS, ids=lambda tag: tag.partition(" ")[0])
@pytest.mark.parametrize("reader", TEXTS)
def test_no_reader_of_text_makes_objects(reader, tag, tmp_path, mark):
    path = tmp_path / "document"
    path.write_text(tag.format(mark=mark))
    with pytest.raises(UserError) as caught:
        TEXTS[reader](path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_a_set_with_hostile_metadata_and_rows_is_refused(tmp_path, mark):
    files = EmbeddingFiles.of(tmp_path, "train2017")
    files.metadata.write_text(json.dumps({"image_ids": [1]}))
    for path in (files.images, files.texts):
        path.write_bytes(zipped(Payload(mark)))
    with pytest.raises(UserError):
        check_set(files)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["metrics.json", "ranks.npz", "run.json", "resolved_config.yaml"])
def test_the_board_unpickles_nothing(name, tmp_path, mark):
    folder = tmp_path / "seed0"
    (folder / "evaluation_results").mkdir(parents=True)
    (folder / "evaluation_results" / "metrics.json").write_text('{"experiment": "mlp"}')
    (folder / "run.json").write_text("{}")
    (folder / "resolved_config.yaml").write_text("{}")
    (folder / "evaluation_results" / "ranks.npz").write_bytes(object_arrays(0))
    path = next(folder.rglob(name))
    path.write_bytes(TAGS[0].format(mark=mark).encode() if path.suffix == ".yaml" else object_arrays(Payload(mark)))
    with pytest.raises((UserError, ValueError)):
        read_run(folder)
    assert not mark.exists()


def test_a_table_of_trials_is_text(tmp_path, mark):
    (tmp_path / "trials.csv").write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises((UserError, ValueError, KeyError)):
        study(tmp_path)
    assert not mark.exists()


def small_study(folder: Path) -> StudyRun:
    path = folder / "study.yaml"
    path.write_text(
        "trials: 1\n"
        "base: {model: {type: linear, output_dim: 2}, loss: {type: infonce}}\n"
        "search_space: [{key: training.learning_rate, type: categorical, choices: [0.001, 0.002]}]\n"
    )
    return StudyRun("small", load_study(path), folder, "hash", pairs=20_000)


class NoData:
    """Data that fail as soon as a trial asks for them."""

    @property
    def train(self):
        raise UserError("there are no data")


def cells(database: Path) -> list[tuple[str, str]]:
    """Return table and column of everything that a study's database keeps, its keys and numbers left out."""
    with sqlite3.connect(database) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = [(table, row) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")]
    return [(table, row[1]) for table, row in columns if "CHAR" in row[2].upper() or "TEXT" in row[2].upper()]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """The database of a study with one trial, which failed for want of data."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.raises(UserError):
        run_study(small_study(folder), NoData())
    return folder / "study.db"


def test_no_cell_of_a_studys_database_is_unpickled(database, tmp_path, mark):
    columns = cells(database)
    assert ("trial_params", "distribution_json") in columns
    assert ("trial_user_attributes", "value_json") in columns
    for number, (table, column) in enumerate(columns):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(database, folder / "study.db")
        with sqlite3.connect(folder / "study.db") as connection:
            connection.execute(f"UPDATE OR REPLACE {table} SET {column} = ?", (pickle.dumps(Payload(mark), 0),))
        with contextlib.suppress(Exception):  # what a study says of such a database is no matter here
            run_study(small_study(folder), NoData())
        assert not mark.exists(), f"{table}.{column}"


def test_no_sampler_that_keeps_a_pickle_in_the_database_can_be_chosen():
    assert read_schema("tuning")["properties"]["sampler"]["properties"]["type"]["enum"] == ["tpe", "random"]


def test_the_header_is_read_by_a_disassembler():
    source = inspect.getsource(inspect.getmodule(matrix_width))
    imported = {
        alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for alias in node.names
    }
    assert imported == {"pickletools", "zipfile"}

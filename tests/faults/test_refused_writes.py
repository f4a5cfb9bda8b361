"""The system refuses to write: one sentence with path, bytes and remedy; nothing is lost, a later run succeeds."""

import errno
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.models.model_file import save_heads, write_checkpoint
from frozenalign.system.errors import UserError
from frozenalign.system.files import (
    replacing,
    save_figure,
    write_arrays,
    write_bytes,
    write_json,
    write_text,
    write_yaml,
)
from frozenalign.system.finished import KEPT
from frozenalign.system.refusals import OF_PLACE, OF_SPACE, refuse_unwritable
from frozenalign.training.checkpoints import Checkpoint
from frozenalign.training.fit import start
from tests.faults.conftest import Chain, SmallDisk, contents
from tests.small_training import experiment, raw, rotated_pairs

STEPS = ["split", "train", "baselines", "evaluate", "evaluate_part", "ensemble", "tune", "report"]


def outputs(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder except a study's database and what is kept of finished steps."""
    return {path: text for path, text in contents(folder).items() if not path.startswith("study.") and KEPT not in path}


def figure() -> Figure:
    drawn = Figure()
    drawn.subplots().plot([1, 2, 3])
    return drawn


def training_state(path: Path) -> None:
    Checkpoint(path, "fingerprint").write(start(experiment("linear", output_dim=30), raw(rotated_pairs(40)), 0))


WRITERS: dict[str, Callable[[Path], None]] = {
    "bytes": lambda path: write_bytes(path, bytes(2000)),
    "text": lambda path: write_text(path, "é" * 1000),
    "json": lambda path: write_json(path, ["ab"] * 1000),
    "yaml": lambda path: write_yaml(path, ["ab"] * 1000),
    "arrays": lambda path: write_arrays(path, a=np.random.default_rng(0).random(1000)),
    "figure": lambda path: save_figure(path, figure(), {}),
    "checkpoint": lambda path: write_checkpoint(path, {"state": {"a": torch.zeros(1000)}}),
    "large checkpoint": lambda path: write_checkpoint(path, {"state": {"a": torch.zeros(1_000_000)}}),
    "model": lambda path: save_heads(path, DualEncoder({"type": "linear", "output_dim": 30}, 30, 30), {}),
    "training state": training_state,
}


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let this process write no file of more than a kilobyte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def bytes_said(message: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) bytes", message)]


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_names_the_file_and_its_bytes_and_keeps_the_old_file(name, tmp_path, small_files):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(UserError) as caught:
        WRITERS[name](path)
    assert contents(tmp_path) == {"file.bin": b"old"}
    message = str(caught.value)
    assert message.startswith(f"cannot write {path} (at least ")
    assert "larger than the system allows (see ulimit -f)" in message
    assert "\n" not in message
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    WRITERS[name](path)
    assert 1024 < bytes_said(message)[0] <= path.stat().st_size


@pytest.mark.parametrize("number", [*OF_SPACE, *OF_PLACE], ids=errno.errorcode.get)
def test_every_refusal_is_one_sentence_with_a_remedy(number, tmp_path):
    with pytest.raises(UserError) as caught, replacing(tmp_path / "a", needed=12345):
        raise OSError(number, "refused")
    assert re.fullmatch(r"cannot write [^\n]*/a( \([^\n]*\))?: [^\n.]*[:;,] [^\n]*", str(caught.value))
    assert bytes_said(str(caught.value))[:1] == ([12345] if number in OF_SPACE else [])


def test_another_error_of_the_block_passes_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a"):
        (tmp_path / "absent").read_bytes()


def in_the_place_of_a_folder(folder: Path) -> Path:
    (folder / "a" / "inside").mkdir(parents=True)
    return folder / "a"


def below_a_file(folder: Path) -> Path:
    (folder / "a").write_text("")
    return folder / "a" / "b"


def far_below_a_file(folder: Path) -> Path:
    return below_a_file(folder) / "c"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (in_the_place_of_a_folder, "a folder of that name stands there"),
        (below_a_file, "a part of the path is a file, not a folder"),
        (far_below_a_file, "a part of the path is a file, not a folder"),
        (lambda folder: folder / ("a" * 300), "the name is too long"),
    ],
    ids=["folder", "below a file", "far below a file", "long name"],
)
def test_an_impossible_place_is_named(place, said, tmp_path):
    path = place(tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        write_text(path, "")
    assert str(path) in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_a_full_disk_stops_a_step_in_one_sentence_and_the_same_step_succeeds_later(name, chain: Chain, small_disk):
    output = small_disk.folder / name
    shutil.copytree(chain.results / name, output, ignore=shutil.ignore_patterns("study.db", KEPT))
    before = outputs(output)
    small_disk.fill()
    with pytest.raises(UserError) as caught:
        chain.steps[name].run(output)
    message = str(caught.value)
    assert message.startswith(f"cannot write {output}/")
    assert "make room there, then run the same command again" in message
    needed, free = bytes_said(message) if name != "tune" else (1, *bytes_said(message))
    assert free < 8192
    assert needed > 0
    assert outputs(output) == before
    small_disk.make_room()
    chain.steps[name].run(output)
    assert set(outputs(output)) == set(before)


# A step may replace an empty file, but none that is clearly not a result of this project.
OLD = b""


@pytest.mark.soak
@pytest.mark.parametrize("name", STEPS)
def test_wherever_a_disk_becomes_full_each_file_is_the_old_or_the_new_one(name, chain: Chain, small_disk):
    output = small_disk.folder / name
    refused = 0
    chain.steps[name].run(output)
    names = [path for path in outputs(output) if "/" not in path]
    for room in range(0, 200_000, 24_576):
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        for path in names:
            (output / path).write_bytes(OLD)
        small_disk.fill(room)
        try:
            chain.steps[name].run(output)
        except UserError as error:
            refused += 1
            assert "make room there" in str(error)
        found = outputs(output)
        assert set(found) >= set(names)
        assert not [path for path in found if Path(path).name.startswith(".")]
        assert all(text == OLD or len(text) > 50 for text in found.values())
        small_disk.make_room()
        chain.steps[name].run(output)
        assert OLD not in outputs(output).values()
    assert refused


@pytest.mark.parametrize("name", STEPS)
def test_a_read_only_folder_is_refused_by_name_and_left_as_it_is(name, chain: Chain, small_disk):
    output = small_disk.folder / name
    shutil.copytree(chain.results / name, output)
    before = contents(output)
    small_disk.remount("ro")
    with pytest.raises(UserError, match=rf"cannot write {output}\S*: the file system is read-only: mount it"):
        chain.steps[name].run(output)
    assert contents(output) == before


def test_a_folder_is_tried_before_a_run_begins(small_disk: SmallDisk, tmp_path):
    refuse_unwritable(tmp_path / "new" / "results")
    assert contents(tmp_path / "new") == {}
    small_disk.fill(room=8192)
    with pytest.raises(UserError, match=r"cannot write .*disk \(at least 65,536 bytes needed, [\d,]+ bytes free\)"):
        refuse_unwritable(small_disk.folder)
    small_disk.make_room()
    small_disk.remount("ro")
    with pytest.raises(UserError, match="read-only"):
        refuse_unwritable(small_disk.folder)

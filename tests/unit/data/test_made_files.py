"""A step recognises its own files by content and changes no other."""

import json
import shutil
from pathlib import Path

import pytest

from frozenalign.data import made_files
from frozenalign.data.made_files import Places
from frozenalign.system.errors import UserError
from tests.workflow.conftest import write_with_its_old_time

PICTURES = "images"
ROW_FILES = ("images.pt", "texts.pt", "metadata.json")
MADE = Places("demo_data", ROW_FILES, subfolder=PICTURES, earlier=("made_by_another.json",))
RECORD = "made_by_demo_data.json"
FIRST = {"images/000001.png": b"red", "images/000002.png": b"blue"} | {name: name.encode() for name in ROW_FILES}
SECOND = {"images/000001.png": b"green"} | {name: b"other " + name.encode() for name in ROW_FILES}


@pytest.fixture
def made(tmp_path) -> Path:
    """A folder of demo data."""
    MADE.write(tmp_path / "demo", FIRST, "")
    return tmp_path / "demo"


def holds(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if name != RECORD}


def test_demo_data_are_known_where_they_were_written_and_in_a_copy(made, tmp_path):
    shutil.copytree(made, tmp_path / "copy")
    assert MADE.foreign_files(made) == MADE.foreign_files(tmp_path / "copy") == []


def test_only_the_record_is_read_where_nothing_was_touched(made, monkeypatch):
    monkeypatch.setattr(made_files, "remembered_hash", lambda path, known: pytest.fail(f"{path} was read"))
    assert MADE.foreign_files(made) == []


def test_missing_files_are_no_foreign_ones(made, tmp_path):
    shutil.rmtree(made / PICTURES)
    (made / ROW_FILES[0]).unlink()
    assert MADE.foreign_files(made) == MADE.foreign_files(tmp_path / "absent") == []


def test_new_demo_data_leave_nothing_of_the_old_ones(made):
    MADE.write(made, SECOND, "")
    assert holds(made) == SECOND
    assert MADE.foreign_files(made) == []


def a_picture(folder: Path) -> str:
    (folder / "images/mine.jpg").write_bytes(b"mine")
    return "images/mine.jpg"


def a_folder_of_pictures(folder: Path) -> str:
    (folder / "images/mine").mkdir()
    return "images/mine"


def other_rows_of_the_same_size_and_time(folder: Path) -> str:
    path = folder / ROW_FILES[1]
    write_with_its_old_time(path, bytes(len(path.read_bytes())))
    return ROW_FILES[1]


def another_picture_of_the_same_name(folder: Path) -> str:
    (folder / "images/000002.png").write_bytes(b"mine")
    return "images/000002.png"


def a_link_to_pictures(folder: Path) -> str:
    (folder / PICTURES).rename(folder / "elsewhere")
    (folder / PICTURES).symlink_to("elsewhere")
    return PICTURES


def a_file_in_place_of_the_pictures(folder: Path) -> str:
    shutil.rmtree(folder / PICTURES)
    (folder / PICTURES).write_bytes(b"mine")
    return PICTURES


def a_link_that_leads_nowhere(folder: Path) -> str:
    (folder / ROW_FILES[2]).unlink()
    (folder / ROW_FILES[2]).symlink_to("a disk that is not there")
    return ROW_FILES[2]


def a_folder_in_place_of_rows(folder: Path) -> str:
    (folder / ROW_FILES[0]).unlink()
    (folder / ROW_FILES[0]).mkdir()
    return ROW_FILES[0]


@pytest.mark.parametrize(
    "put",
    [
        a_picture,
        a_folder_of_pictures,
        other_rows_of_the_same_size_and_time,
        another_picture_of_the_same_name,
        a_link_to_pictures,
        a_file_in_place_of_the_pictures,
        a_link_that_leads_nowhere,
        a_folder_in_place_of_rows,
    ],
)
def test_what_a_user_put_there_is_refused_and_kept(made, put):
    name, before = put(made), holds(made)
    with pytest.raises(UserError) as caught:
        MADE.write(made, SECOND, "take another folder")
    assert str(caught.value).startswith(
        f"{made} holds {name}, which demo_data has not written and would replace: take "
    )
    assert holds(made) == before


def test_files_beside_the_places_of_demo_data_are_nobodys_business(made):
    for name in ("val2017_metadata.json", "notes.txt", "mine/metadata.json"):
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_bytes(b"mine")
    MADE.write(made, SECOND, "")
    assert holds(made).keys() - SECOND.keys() == {
        "val2017_metadata.json",
        "notes.txt",
        "mine/metadata.json",
    }


def test_many_files_are_counted(tmp_path):
    (tmp_path / PICTURES).mkdir()
    for i in range(5):
        (tmp_path / f"images/{i}\n.png").touch()
    with pytest.raises(UserError, match=r"holds images/\d\\n.png, [^,]*, [^,]* and 2 more, which .*: move them$"):
        MADE.refuse_foreign(tmp_path, "move them")


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"sha256": [], "stamps": 3}', '{"sha256": {"images/000001.png": 3}}']
)
def test_a_damaged_record_gives_nothing_away(made, damage):
    (made / RECORD).write_text(damage)
    assert set(MADE.foreign_files(made)) == set(FIRST)


def test_a_record_names_no_file_outside_its_folder(made, tmp_path):
    (tmp_path / "precious").write_bytes(b"mine")
    record = json.loads((made / RECORD).read_text())
    record["sha256"]["../precious"] = record["stamps"]["../precious"] = "anything"
    (made / RECORD).write_text(json.dumps(record))
    MADE.write(made, SECOND, "")
    assert (tmp_path / "precious").read_bytes() == b"mine"


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("moment", range(17))
def test_a_writer_killed_at_any_moment_leaves_only_files_that_it_knows_as_its_own(made, monkeypatch, moment):
    done = []

    def until_killed(original):
        def step(path: Path, *arguments: object, **options: object) -> None:
            if len(done) == moment:
                (path.parent / f"{made_files.UNFINISHED}{path.name}").write_bytes(b"half")
                raise Killed
            done.append(path)
            original(path, *arguments, **options)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(made_files, "write_bytes", until_killed(made_files.write_bytes))
        patch.setattr(made_files, "write_text", until_killed(made_files.write_text))
        patch.setattr(Path, "unlink", until_killed(Path.unlink))
        with pytest.raises(Killed):
            MADE.write(made, SECOND, "")
    assert MADE.foreign_files(made) == []
    MADE.write(made, FIRST, "")
    left = {name: content for name, content in holds(made).items() if made_files.UNFINISHED not in name}
    assert left == FIRST


def test_what_another_step_has_recorded_is_no_user_s(tmp_path):
    other = Places("another", ROW_FILES[:1])
    other.write(tmp_path, {ROW_FILES[0]: b"rows"}, "")
    assert MADE.foreign_files(tmp_path) == []
    (tmp_path / ROW_FILES[0]).write_bytes(b"mine")
    assert MADE.foreign_files(tmp_path) == [ROW_FILES[0]]


def test_what_an_earlier_version_made_elsewhere_stays_known(made):
    later = Places("demo_data", ROW_FILES[:1], subfolder=PICTURES)
    rows = {ROW_FILES[0]: b"new", "images/000001.png": b"new"}
    later.write(made, rows, "")
    assert MADE.foreign_files(made) == []
    assert holds(made).keys() == rows.keys() | set(ROW_FILES)

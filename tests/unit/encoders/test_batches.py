"""Rows that come out of an encoder are checked, and a batch that memory does not hold is divided."""

import threading
import time
from collections.abc import Sequence

import pytest
import torch

from frozenalign.encoders.ahead import computed_ahead
from frozenalign.encoders.batches import OpenedEncoder, by_length
from frozenalign.encoders.progress import Progress
from frozenalign.encoders.settings import EncoderSettings, load_encoder
from frozenalign.system.errors import UserError
from frozenalign.system.memory import OutOfMemoryError
from tests.unit.encoders.noting import YAML


@pytest.fixture
def settings(tmp_path) -> EncoderSettings:
    (tmp_path / "noting.yaml").write_text(YAML)
    return load_encoder(tmp_path / "noting.yaml")


class Giving:
    """An encoder that gives the rows it is told to, at most so many at once."""

    def __init__(self, rows: torch.Tensor, most: int = 100) -> None:
        self.rows, self.most, self.sizes = rows, most, []

    def encode(self, items: Sequence[int]) -> torch.Tensor:
        self.sizes.append(len(items))
        if len(items) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.rows[list(items)]


def opened(settings: EncoderSettings, encoder: Giving) -> OpenedEncoder:
    return OpenedEncoder(settings, "image", torch.device("cpu"), encoder)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (2, float("nan"), "the encoder noting gave NaN or infinite numbers for picture 2: check it"),
        (1, float("inf"), "the encoder noting gave NaN or infinite numbers for picture 1"),
        (3, 0.0, "the encoder noting gave zeros alone for picture 3"),
    ],
)
def test_a_row_that_cannot_be_right_is_named(settings, place, value, said):
    rows = torch.ones(5, 4)
    rows[place] = value
    with pytest.raises(UserError, match=said):
        opened(settings, Giving(rows)).rows(range(5), lambda i: f"picture {i}")


@pytest.mark.parametrize("shape", [(5, 3), (5, 4, 1), (5,)])
def test_rows_of_another_width_are_refused(settings, shape):
    with pytest.raises(UserError, match=r"the encoder noting gave \(5.*numbers for 5 rows of 4: correct `width`"):
        opened(settings, Giving(torch.ones(shape))).rows(range(5), str)


def test_a_batch_that_memory_does_not_hold_is_halved_and_stays_so(settings):
    rows = torch.arange(1.0, 21).reshape(5, 4)
    encoder = Giving(rows, most=2)
    halving = opened(settings, encoder)
    for _ in range(2):
        assert torch.equal(halving.rows(range(5), str), rows)
    assert encoder.sizes == [5, 2, 2, 1, 2, 2, 1]


def test_a_single_item_that_memory_does_not_hold_says_what_to_change(settings):
    with pytest.raises(OutOfMemoryError, match="out of memory even with 1 pictures or texts at once: take an encoder"):
        opened(settings, Giving(torch.ones(5, 4), most=0)).rows(range(5), str)


def test_batches_by_length_hold_every_place_once_and_are_the_same_each_time():
    lengths = [3, 9, 1, 3, 9, 2, 2, 30]
    batches = by_length(lengths, 3)
    assert batches == [[7, 1, 4], [0, 3, 5], [6, 2]]
    assert sorted(place for batch in batches for place in batch) == list(range(8))
    assert by_length([], 3) == []


def test_work_ahead_keeps_its_order_and_its_bound():
    asked, lock = [], threading.Lock()

    def square(number: int) -> int:
        with lock:
            asked.append(number)
        time.sleep(0.001 * (number % 3))
        return number**2

    taken = []
    for value in computed_ahead(square, range(40), threads=4, ahead=6):
        taken.append(value)
        assert len(asked) <= len(taken) + 7
    assert taken == [number**2 for number in range(40)]


def test_an_error_in_work_ahead_comes_where_its_item_is_asked_for():
    results = computed_ahead(lambda number: 1 / (number - 3), range(10), threads=2, ahead=5)
    assert [next(results) for _ in range(3)] == [-1 / 3, -1 / 2, -1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_progress_says_how_much_how_fast_and_how_long(caplog):
    now = [0.0]
    progress = Progress(1000, "pictures", lambda: now[0])
    caplog.set_level("INFO")
    progress.keep(400)
    for _ in range(10):
        now[0] += 2
        progress.add(20)
    assert [record.message for record in caplog.records] == [
        "progress: 500 of 1,000 pictures, 10.0 a second, about 50 s left",
        "progress: 600 of 1,000 pictures, 10.0 a second, about 40 s left",
    ]
    assert progress.closing_line() == "600 pictures, of which 400 were finished before, 10 a second"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("library: absent\n", r"library: found 'absent'; allowed: .*demo"),
        ("modality: sound\n", "modality: found 'sound'"),
        ("width: 0\n", "width: found 0"),
        ("pool: cls\n", "unknown key 'pool'; did you mean pooling"),
        ("dtype: float64\n", "dtype: found 'float64'"),
    ],
)
def test_mistakes_in_an_encoder_s_file_are_named(tmp_path, change, said):
    path = tmp_path / "wrong.yaml"
    key = change.partition(":")[0]
    path.write_text("\n".join(line for line in YAML.splitlines() if not line.startswith(key)) + f"\n{change}")
    with pytest.raises(UserError, match=rf"wrong\.yaml: {said}"):
        load_encoder(path)

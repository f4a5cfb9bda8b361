"""Every benchmark runs, at sizes that say nothing about speed."""

import importlib

import pytest

from tests.benchmarks.__main__ import BENCHMARKS
from tests.benchmarks.measurement import Row, interleaved, table, timed_memory


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs(name):
    rows = importlib.import_module(f"tests.benchmarks.{name}").measure(quick=True)
    assert rows
    assert all(row.ours > 0 for row in rows)
    assert all(row.case in table(name, rows) for row in rows)


def test_cases_are_taken_in_turn_and_the_first_turn_is_not_counted():
    seen = []
    medians = interleaved(2, a=lambda: seen.append("a"), b=lambda: seen.append("b"))
    assert "".join(seen) == "ababab"
    assert set(medians) == {"a", "b"}


def test_ratio_and_share_are_of_the_medians():
    row = Row("case", ours=2.0, reference=8.0, limit=1.0)
    assert (row.ratio, row.share) == (4.0, 0.5)
    assert (Row("case", ours=2.0).ratio, Row("case", ours=2.0).share) == (None, None)


def test_memory_that_a_call_takes_and_frees_is_seen():
    def call() -> None:
        block = bytearray(200_000_000)
        block[::4096] = b"1" * len(block[::4096])

    seconds, extra = timed_memory(call)
    assert seconds > 0
    assert 150e6 < extra < 400e6

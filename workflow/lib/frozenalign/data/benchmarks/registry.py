"""What is registered for benchmarks: published positives, and readers of what an evaluation set is encoded from.

A source of positives is a class with `files()`, what it reads, and `read()`, its positives. A reader is a function of
a file and the folder of its pictures, registered under the kind of the evaluation set.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from frozenalign.configuration.registrations import benchmark_files, positive_sources
from frozenalign.configuration.registry import Registry
from frozenalign.data.benchmarks.items import BenchmarkItems
from frozenalign.data.benchmarks.positives import Positives, read_positives

POSITIVE_SOURCES = Registry("source of positives", positive_sources)
register_positives = POSITIVE_SOURCES.register
BENCHMARK_FILES = Registry("reader of a kind of evaluation set", benchmark_files)
register_benchmark_file = BENCHMARK_FILES.register
Reader = Callable[[Path, Path], BenchmarkItems]


class PositiveSource(Protocol):
    """Published positives of a data set."""

    @staticmethod
    def files() -> list[Path]:
        """Return the files that are read; a missing package is a UserError."""

    @staticmethod
    def read() -> Positives:
        """Return the positives."""


def positive_files(given: str) -> list[Path]:
    """Return the files of a registered source, or the file that is given."""
    return POSITIVE_SOURCES[given].files() if given in POSITIVE_SOURCES else [Path(given)]


def positives_of(given: str) -> Positives:
    """Return the positives of a registered source, or those of the file that is given."""
    return POSITIVE_SOURCES[given].read() if given in POSITIVE_SOURCES else read_positives(Path(given))

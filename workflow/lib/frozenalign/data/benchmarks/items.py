"""What an evaluation set is encoded from."""

from dataclasses import dataclass
from typing import Any

# Which rows of an evaluation set mean what, beside its embeddings; a set of pairs has metadata instead.
ROWS_FILE = "rows.json"
FORMAT = 1


@dataclass(frozen=True)
class BenchmarkItems:
    """Pictures and texts, each once, in the order of their rows, and the document that says what the rows mean.

    pictures: path below the folder of pictures, by image id. name: the file name of the document `meaning`.
    """

    pictures: dict[str, str]
    texts: list[str]
    name: str
    meaning: dict[str, Any]


def numbered(values: list[str]) -> dict[str, int]:
    """Return the number of each different value, in the order in which they come."""
    return {value: number for number, value in enumerate(dict.fromkeys(values))}

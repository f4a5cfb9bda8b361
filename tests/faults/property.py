"""The one property of every reader: a valid result, or a UserError that names the file and the fault in one line."""

import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck
from hypothesis import strategies as st

from frozenalign.system.errors import UserError

ROOT = Path(__file__).parents[2]
SECONDS = 5
LONGEST_MESSAGE = 1000


def cases(number: int, derandomize: bool = True) -> hypothesis.settings:
    """Return settings for `number` examples, the same ones in every run unless `derandomize` is False."""
    return hypothesis.settings(
        max_examples=number,
        derandomize=derandomize,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def answer(call: Callable[[], Any], names: str, holds: Callable[[Any], None] = lambda result: None) -> str | None:
    """Call a reader: return None where its result `holds`, else its sentence, which must name the file `names`.

    The limit is in processor time, as in `ended`: other programs may keep the processor busy.
    """
    began = time.process_time()
    try:
        result = call()
    except UserError as error:
        assert_one_sentence(str(error), names)
        return str(error)
    finally:
        assert time.process_time() - began < SECONDS
    holds(result)
    return None


def refusal(call: Callable[[], Any], names: str) -> str:
    """Call a reader with invalid input and return its error message."""
    said = answer(call, names)
    assert said is not None, "the input was accepted"
    return said


def assert_one_sentence(text: str, names: str) -> None:
    """Check that a message is one printable line of limited length that names the file, then the fault or remedy."""
    assert text.isprintable(), ascii(text)
    assert len(text) <= LONGEST_MESSAGE, len(text)
    assert names in text
    assert any(mark in text for mark in (": ", "; ")), text


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy for `whole` after one to three accidents: bits flipped, spans lost, repeated or overwritten."""
    place = st.integers(0, len(whole) - 1)
    length = st.integers(1, 40)
    accidents = st.one_of(
        st.tuples(st.just("flip"), place, st.integers(0, 7)),
        st.tuples(st.just("lose"), place, length),
        st.tuples(st.just("repeat"), place, length),
        st.tuples(st.just("overwrite"), place, st.binary(min_size=1, max_size=12)),
        st.tuples(st.just("insert"), place, st.binary(min_size=1, max_size=12)),
        st.tuples(st.just("cut"), place, st.none()),
    )
    return st.lists(accidents, min_size=1, max_size=3).map(lambda several: _after(whole, several))


def _after(content: bytes, accidents: list[tuple[str, int, Any]]) -> bytes:
    for kind, place, detail in accidents:
        head, tail = content[:place], content[place:]
        if kind == "flip":
            content = head + bytes([byte ^ (1 << detail) for byte in tail[:1]]) + tail[1:]
        elif kind == "lose":
            content = head + tail[detail:]
        elif kind == "repeat":
            content = head + tail[:detail] + tail
        elif kind == "overwrite":
            content = head + detail + tail[len(detail) :]
        elif kind == "insert":
            content = head + detail + tail
        else:
            content = head
    return content


def flipped(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy for `whole` with a single bit changed."""
    return st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 7)).map(
        lambda drawn: _after(whole, [("flip", *drawn)])
    )


texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", "\ud800", "a\0", "\0", "e\u0301", "\u202eabc", "\x1b[2J", "a\nb", "0", "None", "x" * 300, "y" * 100_000]
    ),
)
numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, 10**18, 10**400, 1e300, -0.0, float("nan"), float("inf")]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


def places(document: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every value in a document, the document's own, (), first."""
    yield path
    items = document.items() if isinstance(document, dict) else enumerate(document) if type(document) is list else ()
    for key, value in items:
        yield from places(value, (*path, key))


def altered(document: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for `document` with one of its values replaced, or left out."""
    paths = list(places(document))
    return st.tuples(st.sampled_from(paths), st.one_of(values, st.just(Ellipsis))).map(
        lambda drawn: replaced(document, *drawn)
    )


def replaced(document: Any, path: tuple, value: Any) -> Any:
    """Return `document` with the value at a path replaced, or left out where `value` is an ellipsis."""
    if not path:
        return None if value is Ellipsis else value
    document = copy.deepcopy(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is Ellipsis:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


@dataclass(frozen=True)
class Ended:
    """The end of a program: exit status, both its outputs, seconds of processor time, peak memory in bytes."""

    status: int | None
    said: str
    seconds: float
    memory: int


# A process between the tests and the program: a program's peak memory starts at that of its parent.
_MEASURED = """
import json, resource, subprocess, sys
said, patience, *command = sys.argv[1:]
with open(said, "w") as stream:
    try:
        status = subprocess.run(command, stdout=stream, stderr=stream, timeout=float(patience)).returncode
    except subprocess.TimeoutExpired:
        status = None
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""


def ended(folder: Path, *arguments: str, patience: float = 60) -> Ended:
    """Run the project's Python with arguments; after `patience` seconds it is killed: status None."""
    command = [sys.executable, "-c", _MEASURED, str(folder / "said"), str(patience), sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    status, seconds, memory = json.loads(done.stdout)
    return Ended(status, (folder / "said").read_text(), seconds, memory * (1 if sys.platform == "darwin" else 1024))

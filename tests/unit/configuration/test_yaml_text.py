"""YAML files: scalars are what they look like, and a malformed file is refused with its line."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from frozenalign.configuration.yaml_text import parse_yaml, read_yaml
from frozenalign.system.errors import UserError
from tests.faults.property import cases, refusal

NAME = "odd.yaml"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1e-4", 1e-4), ("1E5", 1e5), ("-1_000", -1000), ("0x1F", 31), ("1.", 1.0), (".5", 0.5), ("0", 0), ("-0", 0)],
        *[("012", "012"), ("1:30", "1:30"), ("0o17", "0o17"), ("0b1", "0b1"), ("2020-01-01", "2020-01-01")],
        *[("~", None), ("", None), ("null", None), ("yes", True), ("Off", False), ("y", "y"), ("=", "="), ("<<", "<<")],
        *[(".inf", ".inf"), (".nan", ".nan"), ("[&n 8, *n]", [8, 8])],
    ],
)
def test_scalars_are_what_they_look_like(text, value):
    found = parse_yaml(f"a: {text}", NAME)["a"]
    assert (found, type(found)) == (value, type(value))


@cases(80)
@given(st.one_of(st.text(max_size=12), st.integers(), st.floats(-1e18, 1e18), st.booleans()))
def test_a_file_written_by_the_project_is_read_as_it_was(value):
    """PyYAML writes it, and writes 1e5 without a dot, which it would read as text."""
    found = parse_yaml(yaml.safe_dump({"a": value}, sort_keys=False, allow_unicode=True), NAME)["a"]
    assert (found, type(found)) == (value, type(value))
    assert not isinstance(found, float) or math.copysign(1, found) == math.copysign(1, value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "(line 3: the key 'a' appears twice)"),
        ("2017: {dir: data}", "(line 1: the key 2017 is not text: put it in quotation marks)"),
        ("on: 2", "(line 1: the key True is not text"),
        ("dir: {{data}}", "(line 1: the key {'data': None} is not text"),
        ("model:\n\ttype: mlp", "(line 2: "),
        ("model: [mlp", "did not find expected ',' or ']'"),
        ("a: 1\n---\na: 2", "(line 2: "),
        ("model: *base", "(line 1: found undefined alias"),
        ("a: !!python/name:os.system", "python/name:os.system"),
        ("a: \x07", "control characters are not allowed"),
        ("a: 0x_", "invalid literal"),
        ("a: é".encode("latin-1"), "is not UTF-8 text (byte 3)"),
        ("a: 1".encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(content, problem, tmp_path):
    (tmp_path / NAME).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert problem in refusal(lambda: read_yaml(tmp_path / NAME), NAME)


def test_a_byte_order_mark_is_left_out_and_what_is_no_file_is_refused(tmp_path):
    (tmp_path / NAME).write_text("\ufeffa: 1", encoding="utf-8")
    assert read_yaml(tmp_path / NAME) == {"a": 1}
    for path in (tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(UserError, match=path.name):
            read_yaml(path)

"""Configuration files after accidents and made to harm: settings within their schema, or one sentence."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from frozenalign.configuration.experiments import Experiment, load_experiment
from frozenalign.configuration.runs import checked_run
from frozenalign.configuration.studies import Study, load_study
from frozenalign.configuration.yaml_text import YAML_BYTES, parse_yaml, read_yaml
from tests.faults.property import ROOT, altered, answer, cases, damaged, ended, refusal, texts, values

EXPERIMENT = (ROOT / "config" / "experiments" / "clip.yaml").read_bytes()
STUDY = (ROOT / "config" / "tuning" / "quick.yaml").read_bytes()
RUN = (ROOT / "config" / "config.yaml").read_bytes()
NAME = "odd.yaml"


def plain(value: Any) -> bool:
    """Say whether a value is what JSON can hold, so that every later step can write it and read it again."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    return value is None or isinstance(value, str | bool) or (isinstance(value, int | float) and math.isfinite(value))


def within_its_schema(experiment: Experiment) -> None:
    document = experiment.as_document()
    assert plain(document)
    assert 0 < experiment.training.learning_rate < math.inf
    assert 2 <= experiment.training.batch_size < 2**63
    json.dumps(document, allow_nan=False)


def searchable(study: Study) -> None:
    assert 1 <= study.trials < 2**63
    assert plain(study.base)
    for entry in study.search_space:
        assert plain(entry.choices)
        assert entry.type == "categorical" or entry.low <= entry.high


READERS = {"experiment": (load_experiment, within_its_schema), "study": (load_study, searchable)}


def read(tmp_path: Path, kind: str, content: bytes) -> str | None:
    reader, holds = READERS[kind]
    path = tmp_path / NAME
    path.write_bytes(content)
    return answer(lambda: reader(path), NAME, holds)


def written(document: object) -> bytes:
    """Write a document as JSON, which is YAML, unless it has what only one of them can say."""
    return json.dumps(document).encode("ascii")


@cases(130)
@given(altered(yaml.safe_load(EXPERIMENT)))
def test_one_value_of_an_experiment_replaced(tmp_path, document):
    read(tmp_path, "experiment", written(document))


@cases(130)
@given(altered(yaml.safe_load(STUDY)))
def test_one_value_of_a_study_replaced(tmp_path, document):
    read(tmp_path, "study", written(document))


@cases(80)
@given(damaged(EXPERIMENT))
def test_accidents_of_an_experiment(tmp_path, content):
    read(tmp_path, "experiment", content)


@cases(80)
@given(damaged(STUDY))
def test_accidents_of_a_study(tmp_path, content):
    read(tmp_path, "study", content)


@pytest.mark.soak
@pytest.mark.parametrize(("kind", "whole"), [("experiment", EXPERIMENT), ("study", STUDY)])
@cases(1_500, derandomize=False)
@given(st.data())
def test_many_more_accidents(tmp_path, kind, whole, data):
    content = data.draw(st.one_of(altered(yaml.safe_load(whole)).map(written), damaged(whole)))
    read(tmp_path, kind, content)


@cases(80)
@given(values)
def test_any_document_is_no_experiment(tmp_path, document):
    assert read(tmp_path, "experiment", written(document))


@cases(50)
@given(altered(yaml.safe_load(RUN)))
def test_one_value_of_the_run_replaced(document):
    answer(lambda: checked_run(document, "configuration"), "configuration")


syntax = st.lists(st.sampled_from([*"[]{}:,-&*!|>'\"%@`#? \n\tab1.0~<=\\", "&a ", "*a", "<<: ", "!!set "]))


@cases(160)
@given(syntax.map("".join))
def test_any_signs_of_the_language(text):
    answer(lambda: parse_yaml(text, NAME), NAME, lambda document: assert_plain(document))


def assert_plain(document: Any) -> None:
    assert plain(document)


@cases(80)
@given(st.one_of(st.text(max_size=30), st.integers().map(str), st.floats().map(str), texts))
def test_any_scalar_is_a_plain_value(text):
    answer(lambda: parse_yaml(f"a: {text}", NAME), NAME, lambda document: assert_plain(document))


def laughs(levels: int, opening: str = "[", closing: str = "]") -> str:
    lines = ["a0: &a0 [lol]"]
    lines += [f"a{i}: &a{i} {opening}{', '.join([f'*a{i - 1}'] * 9)}{closing}" for i in range(1, levels)]
    return "\n".join(lines)


HEAD = "loss: {type: clip}\nmodel: {type: mlp, hidden_dim: 8}\n"
HARMFUL = {
    "empty": ("", "found None (nothing)"),
    "only a comment": ("# nothing\n", "found None (nothing)"),
    "a list": ("[1, 2]", "found [1, 2] (a list)"),
    "billion laughs": (laughs(20), "values or"),
    "billion laughs as text": (f"description: &d {laughs(12, '{k: [', ']}')}", "not valid YAML"),
    "laughs below a key that is text": (f"{laughs(12)}\ndescription: *a11", "values or"),
    "list in itself": ("description: &a [*a]", "levels"),
    "mapping in itself": ("&a {model: *a}", "levels"),
    "document in itself": ("&a [*a]", "levels"),
    "merge key": (f"{HEAD}training:\n  <<: {{batch_size: 4}}\n", "unknown key '<<'"),
    "merge bomb": ("a: &a {k: 1}\nb: &b {<<: [*a, *a]}\nc: {<<: [*b, *b]}", "unknown key"),
    "unknown alias": ("model: *nowhere", "undefined alias"),
    "long unknown alias": (f"model: *{'x' * 900_000}", "not valid YAML"),
    "Python object": ("!!python/object/apply:os.system ['touch unpickled']", "python/object/apply:os.system"),
    "Python name": ("model: !!python/name:os.system", "the tag"),
    "binary": ("description: !!binary aGVsbG8=", "the tag"),
    "time": ("description: !!timestamp 2020-01-01", "the tag"),
    "set": ("description: !!set {a, b}", "the tag"),
    "ordered mapping": ("description: !!omap [a: 1]", "the tag"),
    "unknown tag": ("description: !mine {a: 1}", "the tag '!mine'"),
    "tag with a line break": ("description: !a%0Ab x", "the tag"),
    "text tag": ("!!str [1]", "the tag"),
    "date as a key": ("2020-01-01: 1", "unknown key '2020-01-01'"),
    "number as a key": ("1: 1", "the key 1 is not text"),
    "list as a key": ("{[1]: 2}", "the key [1] is not text"),
    "mapping as a key": ("{{a: 1}: 2}", "the key {'a': 1} is not text"),
    "nothing as a key": ("~: 2", "the key None is not text"),
    "truth as a key": ("on: 2", "the key True is not text"),
    "key twice": (f"{HEAD}loss: {{type: siglip}}", "line 3: the key 'loss' stands twice"),
    "25,000 keys": ("{" + ", ".join(f"k{i}: 1" for i in range(25_000)) + "}", "values or"),
    "key of a megabyte": (f"? {'k' * 1_000_000}\n: 1", "unknown key"),
    "tab": ("model:\n\ttype: mlp", "line 2"),
    "control character": ("description: \x07", "not valid YAML"),
    "escape sequence": ('"\\x1b[2J": 1', r"unknown key '\x1b[2J'"),
    "NUL": ("description: a\0b", "not valid YAML"),
    "two documents": (f"{HEAD}---\n{HEAD}", "line 3"),
    "deep lists": ("[" * 100_000 + "]" * 100_000, "nesting"),
    "deep mappings": ("{a: " * 100_000, "nesting"),
    "deep blocks": ("".join(f"{' ' * i}a:\n" for i in range(1000)), "nesting"),
    "deep dashes": ("- " * 10_000, "nesting"),
    "infinite": (f"{HEAD}training: {{learning_rate: .inf}}", "training.learning_rate: found inf"),
    "not a number": (f"{HEAD}training: {{learning_rate: .nan}}", "training.learning_rate: found nan"),
    "infinite by its exponent": (f"{HEAD}training: {{learning_rate: 1e999}}", "training.learning_rate: found inf"),
    "integer of 10,000 digits": (f"{HEAD}training: {{num_epochs: {'9' * 10_000}}}", "not valid YAML"),
    "integer of 1,000 digits": (
        f"{HEAD}training: {{num_epochs: {'9' * 1000}}}",
        "found an integer of",
    ),
    "hexadecimal of 300,000 digits": (f"{HEAD}training: {{num_epochs: 0x{'f' * 300_000}}}", "training.num_epochs"),
    "number of another base": (f"{HEAD}training: {{num_epochs: 1:30}}", "found '1:30' (text); allowed: an integer"),
    "octal": (f"{HEAD}training: {{num_epochs: 0512}}", "found '0512' (text); allowed: an integer"),
    "hexadecimal without digits": (f"{HEAD}training: {{num_epochs: 0x_}}", "not valid YAML"),
    "text of a megabyte": (f"{HEAD}training: {{num_epochs: {'x' * 1_000_000}}}", "training.num_epochs: found 'xxx"),
    "half a character": (f'{HEAD}description: "\\ud800"', "not valid YAML"),
    "UTF-16": (HEAD.encode("utf-16"), "not UTF-8 text"),
    "Latin-1": (b"description: \xe9", "not UTF-8 text (byte 13)"),
    "100 MB": (None, "has 100000000 bytes where at most"),
}


@pytest.mark.parametrize("reader", [load_experiment, load_study])
@pytest.mark.parametrize("kind", HARMFUL)
def test_harmful_files_are_refused(tmp_path, kind, reader):
    content, said = HARMFUL[kind]
    with (tmp_path / NAME).open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content or b"")
        if content is None:
            stream.truncate(10**8)
    found = refusal(lambda: reader(tmp_path / NAME), NAME)
    assert said in found or reader is load_study


TAKEN = {
    "byte order mark": "\ufeff" + HEAD,
    "aliases": "model: {type: mlp, hidden_dim: &n 8, output_dim: *n}\nloss: {type: clip}",
    "numbers": f"{HEAD}training: {{learning_rate: 1e-4, num_epochs: 0x10, weight_decay: .5, warmup_steps: 1_000}}",
    "whole floats": f"{HEAD}training: {{num_epochs: 3.0, batch_size: 1e2}}",
    "dates and times are text": f"{HEAD}description: 2020-13-45",
    "an equals sign is text": f"{HEAD}description: =",
}


@pytest.mark.parametrize("kind", TAKEN)
def test_unusual_files_are_taken(tmp_path, kind):
    assert read(tmp_path, "experiment", TAKEN[kind].encode()) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1e-4", 1e-4), ("1E5", 1e5), ("-1_000", -1000), ("0x1F", 31), ("1.", 1.0), (".5", 0.5), ("0", 0), ("-0", 0)],
        *[("012", "012"), ("1:30", "1:30"), ("0o17", "0o17"), ("0b1", "0b1"), ("2020-01-01", "2020-01-01")],
        *[("~", None), ("", None), ("null", None), ("yes", True), ("Off", False), ("y", "y"), ("=", "="), ("<<", "<<")],
    ],
)
def test_scalars_are_what_they_look_like(text, value):
    found = parse_yaml(f"a: {text}", NAME)["a"]
    assert (found, type(found)) == (value, type(value))


@cases(80)
@given(st.one_of(st.text(max_size=12), st.integers(-(2**63), 2**63 - 1), st.floats(-1e18, 1e18), st.booleans()))
def test_what_the_project_writes_is_read_as_it_was(tmp_path, value):
    """Files of the project are written by PyYAML, whose idea of plain text differs in one case: 1e5 without a dot."""
    text = yaml.safe_dump({"a": value}, sort_keys=False, allow_unicode=True)
    found = answer(lambda: parse_yaml(text, NAME), NAME, lambda document: same(document["a"], value))
    assert found is None


def same(found: object, value: object) -> None:
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("reader", [load_experiment, load_study, read_yaml])
def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "lost").symlink_to("nowhere")
    for name in ("pipe", "loop", "lost", "missing", "."):
        refusal(lambda name=name: reader(tmp_path / name), name if name != "." else str(tmp_path))


def ends_in_one_sentence(folder: Path, content: bytes, said: str) -> None:
    """Training as a program: one line, status 1, at most 5 s of computing beside its start, at most 1 GB."""
    (folder / NAME).write_bytes(content)
    where = [f"--{name}={folder / name}" for name in ("data-dir", "split-dir", "output-dir")]
    done = ended(folder, "-m", "workflow.scripts.train", "--experiment", str(folder / NAME), *where)
    assert done.said.startswith("error: ")
    assert done.said.count("\n") == 1
    assert said in done.said
    assert done.status == 1
    assert done.seconds < 5 + 5
    assert done.memory < 10**9
    assert not (folder / "output-dir").exists()


def test_a_bomb_of_aliases_ends_training_at_once(tmp_path):
    ends_in_one_sentence(tmp_path, f"{laughs(25)}\ndescription: *a24\n".encode(), "aliases written out")


@pytest.mark.soak
@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "&a [", "a: 1\n"])
def test_a_file_of_the_largest_size_ends_training_at_once(tmp_path, opening):
    ends_in_one_sentence(tmp_path, (opening * (YAML_BYTES // len(opening))).encode(), NAME)

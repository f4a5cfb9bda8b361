"""Locales that are not UTF-8: texts are read as they were written, and what cannot be shown ends nothing."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from frozenalign.system.files import read_json
from tests.conftest import related_embeddings, write_set

ROOT = Path(__file__).parents[2]
# A line of Python each, which prints nothing and ends without an error.
READERS = {
    "heads, losses and baselines": (
        "from frozenalign.configuration import registrations as r; r.heads(), r.losses(), r.baselines()"
    ),
    "a run and its files": (
        "from pathlib import Path; from frozenalign.configuration.runs import checked_files, checked_run; "
        "from frozenalign.configuration.yaml_text import read_yaml; "
        "checked_files(checked_run(read_yaml('config/ablation.yaml'), ''), [Path('config')])"
    ),
    "the modules of every script": (
        "from pathlib import Path; from frozenalign.system.fingerprints import import_closure; "
        "[import_closure(path, Path('workflow/lib')) for path in Path('workflow/scripts').glob('*.py')]"
    ),
    "the pins of the environments": "from envs import lock; [lock.pinned(lock.ENVS / name) for name in lock.FILES]",
}
SAYS = "import sys; from frozenalign.system.errors import UserError, run\ndef main():\n    {}\nrun(main)"
RUN = "{o}/quick/seed0"
FILES = "--data-dir {d} --split-dir {o}/split --output-dir"
CHAIN = (
    'split --dataset small --data-dir {d} --output-dir {o}/split --counts {"train":40,"val":10,"test":10}',
    f"train --experiment config/experiments/quick_test.yaml --device cpu {FILES} {RUN}",
    f"evaluate --model {RUN}/best_model.pt --device cpu {FILES} {RUN}/evaluation_results",
    f"tune --study {{d}}/study.yaml --device cpu {FILES} {{o}}/tuning/study",
    "report --dataset-name small --data-dir {d} --manifest {o}/split/manifest.json "
    f"--runs {RUN} --studies {{o}}/tuning/study --output-dir {{o}}/report",
)
RUNS_THE_CHAIN = """
import importlib, sys
def main():
    data, out, *commands = sys.argv[1:]
    for command in commands:
        name, *words = command.split()
        words = [word.replace("{d}", data).replace("{o}", out) for word in words]
        importlib.import_module("workflow.scripts." + name).main(words)
from frozenalign.system.errors import run
run(main)
"""
STUDY = """
trials: 1
base: {model: {type: linear}, loss: {type: clip}, training: {num_epochs: 1, batch_size: 16}}
search_space: [{key: training.learning_rate, type: float, low: 1e-4, high: 1e-2}]
"""


@pytest.fixture(scope="module", params=["C", "zh_CN.GBK", "ja_JP.EUC-JP"])
def locale(request, tmp_path_factory) -> dict[str, str]:
    """The environment of a process in a locale, which localedef makes where it can."""
    folder = tmp_path_factory.mktemp("locales")
    if request.param != "C":
        source, _, characters = request.param.partition(".")
        command = ["localedef", "-i", source, "-f", characters, folder / request.param]
        try:
            subprocess.run(command, capture_output=True, check=True)
        except (FileNotFoundError, subprocess.CalledProcessError):
            pytest.skip(f"localedef cannot make {request.param}")
    others = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "PYTHONIO"))}
    own = {"LC_ALL": request.param, "LOCPATH": str(folder), "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    return others | own | {"PYTHONPATH": str(ROOT)}


def python(code: str, locale: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a few lines of Python that stand in ASCII."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, env=locale, capture_output=True, check=False)


def test_the_locale_is_one_that_reads_files_otherwise(locale):
    done = python("import locale; print(locale.getpreferredencoding(False))", locale)
    assert done.stdout.decode().strip().lower() in ("ansi_x3.4-1968", "gbk", "euc-jp")


@pytest.mark.parametrize("what", READERS)
def test_a_text_of_the_project_is_read_in_any_locale(locale, what):
    done = python(READERS[what], locale)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_finished_job_may_print_and_log_what_the_terminal_lacks(locale):
    text = "a \u20ac \U0001f600 \udce6 z"
    done = python(SAYS.format(f"import logging; print({text!a}); logging.warning({text!a})"), locale)
    assert done.returncode == 0, done.stderr
    for stream in (done.stdout, done.stderr):
        assert rb"\U0001f600 \udce6 z" in stream
        assert b"Error" not in stream


def test_a_mistake_is_said_in_any_locale(locale):
    done = python(SAYS.format(r"raise UserError('\U0001f600: write \u20ac')"), locale)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(rb"error: \U0001f600: write ")
    assert done.stderr.count(b"\n") == 1


def test_a_name_that_the_locale_lacks_ends_a_script_in_one_sentence_whose_remedy_helps(locale, tmp_path):
    code = SAYS.format(r"open(sys.argv[1] + '/\U0001f600', 'x').close()")
    done = python(code, locale, str(tmp_path))
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(f"error: '{tmp_path}/".encode())
    assert done.stderr.endswith(b"lacks: set PYTHONUTF8=1 and run the same command again\n")
    assert done.stderr.count(b"\n") == 1
    assert python(code, locale | {"PYTHONUTF8": "1"}, str(tmp_path)).returncode == 0
    assert [os.fsencode(path.name) for path in tmp_path.iterdir()] == ["\U0001f600".encode()]


def test_a_path_is_written_as_the_utf_8_that_it_is(locale):
    folder = b"/data/\xc3\xbc \xe6\x97\xa5\xe6\x9c\xac"
    code = "import sys; from frozenalign.system.files import path_text; print(ascii(path_text(sys.argv[1])))"
    done = python(code, locale, os.fsdecode(folder))
    assert done.returncode == 0
    # What Python makes of these bytes in EUC-JP it cannot turn back.
    assert done.stdout.decode().strip() == ascii(folder.decode()) or locale["LC_ALL"] == "ja_JP.EUC-JP"


def left_to_the_locale(tree: ast.AST) -> list[int]:
    """Return the lines of calls that read or write text in an encoding that they do not name."""
    found = []
    for call in ast.walk(tree):
        if isinstance(call, ast.Call):
            named = {keyword.arg: keyword.value for keyword in call.keywords}
            modes = {getattr(value, "value", None) for value in [*call.args, named.get("mode")]}
            called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            is_text = (
                (called in ("read_text", "write_text") and isinstance(call.func, ast.Attribute))
                or (
                    called in ("open", "fdopen", "NamedTemporaryFile")
                    and modes & {"r", "w", "a", "x", "r+", "w+", "a+"}
                )
                or (called in ("run", "Popen", "check_output") and {"text", "universal_newlines"} & set(named))
            )
            if is_text and "encoding" not in named:
                found.append(call.lineno)
    return found


@pytest.mark.parametrize(
    "text",
    ["path.read_text()", "path.write_text('a')", "path.open('w')", "open('a', mode='r')", "run(command, text=True)"],
)
def test_the_search_finds_an_encoding_that_is_left_to_the_locale(text):
    assert left_to_the_locale(ast.parse(text))


def test_no_source_leaves_an_encoding_to_the_locale():
    """Ruff's rule of the same purpose passes over a path whose type it cannot tell."""
    sources = [path for part in ("workflow", "envs", "tests/benchmarks") for path in (ROOT / part).rglob("*.py")]
    found = {path: left_to_the_locale(ast.parse(path.read_text(encoding="utf-8"))) for path in sources}
    assert len(found) > 70
    assert {path.relative_to(ROOT).as_posix(): lines for path, lines in found.items() if lines} == {}


@pytest.fixture
def foreign(tmp_path, locale) -> Path:
    """A data set in a folder, with captions and with pictures, that have other letters in their names."""
    if locale["LC_ALL"] == "ja_JP.EUC-JP":
        pytest.skip("Python cannot open such names in EUC-JP")
    images, texts, ids = related_embeddings(60, 3)
    folder = tmp_path / "ü 日本"
    captions = [f"ein Hündchen, 犬 {i}" for i in range(len(ids))]
    write_set(
        folder, images, texts, {"image_ids": ids, "captions": captions, "image_files": {str(i): "犬.png" for i in ids}}
    )
    Image.new("RGB", (8, 8)).save(folder / "犬.png")
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_the_chain_finishes_and_its_files_hold_the_names_as_they_are(foreign, locale):
    out = foreign.parent / "ö 日本"
    done = python(RUNS_THE_CHAIN, locale, str(foreign), str(out), *CHAIN)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    assert b"Error" not in done.stderr
    assert read_json(out / "split" / "manifest.json")["folder"] == os.fspath(foreign)
    page = (out / "report" / "index.html").read_text(encoding="utf-8")
    assert os.fspath(foreign) in page
    assert "ein Hündchen, 犬" in page
    assert "data:image/jpeg" in page

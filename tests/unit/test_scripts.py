"""The scripts: importing does nothing, --help explains every option, a mistake ends in one sentence."""

import importlib
import logging
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from frozenalign.models.model_file import load_heads
from frozenalign.system.errors import UserError, run
from frozenalign.system.signals import Terminated
from workflow.scripts import baselines, train

ROOT = Path(__file__).parents[2]
SOURCES = {path.stem: path for path in sorted((ROOT / "workflow" / "scripts").glob("[!_]*.py"))}
MISTAKES = {
    "baselines": "--baselines ridge --data-dir absent --split-dir absent --output-dir out",
    "check_encoder": "--encoder absent.yaml",
    "compare_encoders": "--data-dir absent --split-dir absent --output-dir out",
    "curves": "--runs absent",
    "demo_data": "--images 1 --output-dir out",
    "demo_photos": "--output-dir /dev/null/absent",
    "demo_benchmarks": "--output-dir /dev/null/absent",
    "encode_evaluation_set": "--kind retrieval --file absent.csv --pictures absent --image-encoder a --text-encoder b "
    "--output-dir out",
    "encode_images": "--encoder absent.yaml --captions absent.json --pictures absent --output-dir out",
    "encode_texts": "--encoder absent.yaml --captions absent.json --output-dir out",
    "encoder_similarity": "--sets absent --output-dir out",
    "encodings": "--dataset-name demo --sets absent --runs absent/linear/seed0 --output-dir out",
    "ensemble": "--name both --models absent/best_model.pt --data-dir absent --split-dir absent --output-dir out",
    "evaluate": "--model absent/best_model.pt --data-dir absent --split-dir absent --output-dir out",
    "evaluate_part": "--model absent/a.pt --part 1 --of 2 --data-dir absent --split-dir absent --output-dir out",
    "evaluate_sets": '--model absent/a.pt --sets {"a":{"kind":"retrieval","dir":"b"}} '
    "--data-dir absent --split-dir absent --output-dir out",
    "explore": "--results absent",
    "export": "--model absent/best_model.pt --without-onnx --output-dir out",
    "figures": "--evaluations absent",
    "gallery": "--model absent/best_model.pt --data-dir absent --split-dir absent --output-dir out",
    "merge_encodings": "--images absent.json --texts absent.json --captions absent.json --pictures a --output-dir out",
    "read_embeddings": "--images absent.npy --texts absent.npy --output-dir out",
    "report": "--dataset-name demo --data-dir absent --manifest absent.json --runs absent/seed0 --output-dir out",
    "search": "--model absent/best_model.pt --text words",
    "split": '--dataset demo --data-dir absent --counts {"train":1,"val":1,"test":1} --output-dir out',
    "train": "--experiment absent.yaml --data-dir absent --split-dir absent --output-dir out",
    "tune": "--study absent.yaml --data-dir absent --split-dir absent --output-dir out",
    "tune_best": "--study absent.yaml --split-dir absent --output-dir out",
    "tune_init": "--study absent.yaml --split-dir absent --output-dir out",
    "tune_worker": "--study absent.yaml --data-dir absent --split-dir absent --output-dir out",
}


def test_importing_the_scripts_prints_nothing_writes_nothing_and_leaves_logging_alone(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    before = list(root.handlers), root.level
    for name in SOURCES:
        monkeypatch.delitem(sys.modules, f"workflow.scripts.{name}", raising=False)
        assert callable(importlib.import_module(f"workflow.scripts.{name}").main)
    assert (root.handlers, root.level) == before
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SOURCES)
def test_help_names_every_option_and_says_what_it_is_for(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    script = importlib.import_module(f"workflow.scripts.{name}")
    with pytest.raises(SystemExit) as ended:
        script.main(["--help"])
    assert not ended.value.code
    usage, _, options = capsys.readouterr().out.partition("\noptions:\n")
    assert f"python -m workflow.scripts.{name} " in usage
    assert script.__doc__.split("\n")[0] in usage
    entries = [entry.partition("  ") for entry in re.split(r"^  (?=-)", options, flags=re.MULTILINE)[1:]]
    explained = {invocation.split()[0]: explanation.strip() for invocation, _, explanation in entries}
    written = re.findall(r'"(--[\w-]+)"', SOURCES[name].read_text())
    assert list(explained) == ["-h,", *written]
    assert [option for option, explanation in explained.items() if len(explanation) < 10] == []


def test_every_script_that_reads_something_has_a_mistake_to_refuse():
    assert set(MISTAKES) == set(SOURCES) - {"configuration_reference"}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_a_script_with_one_sentence_and_no_output(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *MISTAKES[name].split()])
    monkeypatch.delitem(sys.modules, f"workflow.scripts.{name}", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"workflow.scripts.{name}", run_name="__main__", alter_sys=True)
    assert re.fullmatch(r"error: [^\n]*(absent|--images|make demo-photos)[^\n]*", ended.value.code)
    assert list(tmp_path.iterdir()) == []


def test_the_shell_sees_the_sentence_on_standard_error_and_exit_status_1(tmp_path):
    experiment = ROOT / "config" / "experiments" / "linear.yaml"
    absent = tmp_path / "absent"
    places = ["--data-dir", absent, "--split-dir", absent, "--output-dir", tmp_path / "out"]
    command = [sys.executable, "-m", "workflow.scripts.train", "--experiment", experiment, "--device", "cpu", *places]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"error: [^\n]*absent[^\n]*\n", ended.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("a: b"), "error: a: b", ""),
        (KeyboardInterrupt(), 130, "interrupted: run the same command again\n"),
        (KeyboardInterrupt("in epoch 3"), 130, "interrupted: in epoch 3\n"),
        (Terminated("in epoch 3"), 143, "interrupted: in epoch 3\n"),
    ],
)
def test_what_a_person_can_act_on_ends_a_script_without_a_traceback(error, code, said, capsys):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == code
    assert capsys.readouterr().err == said


def test_a_mistake_in_the_code_keeps_its_traceback():
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(main)


@pytest.mark.parametrize("name", ["tune_init", "tune_worker", "tune_best"])
def test_what_only_opens_a_study_starts_without_pytorch(name):
    command = f"import sys; import workflow.scripts.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=False).returncode == 0


def test_a_step_by_hand_takes_the_name_of_the_data_set_from_its_split(data_dir, split_dir, tmp_path):
    (tmp_path / "small.yaml").write_text(
        "model: {type: linear, output_dim: 4}\nloss: {type: clip}\ntraining: {num_epochs: 1, batch_size: 60}\n"
    )
    where = ["--data-dir", str(data_dir), "--split-dir", str(split_dir)]
    baselines.main(["--baselines", "cca", *where, "--output-dir", str(tmp_path)])
    head = ["--experiment", str(tmp_path / "small.yaml"), "--device", "cpu"]
    train.main([*head, *where, "--output-dir", str(tmp_path / "head")])
    train.main([*head, *where, "--output-dir", str(tmp_path / "named"), "--dataset", "other"])
    for folder, dataset in (("cca/seed0", "small"), ("head", "small"), ("named", "other")):
        assert load_heads(tmp_path / folder / "best_model.pt")[1]["dataset"] == dataset

"""Files of a user under the names of results: a step stops before it writes; its own results are replaced."""

import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from frozenalign.configuration.foreign_results import EVALUATION, refuse_foreign_results
from frozenalign.configuration.result_files import read_result
from frozenalign.system.errors import UserError

SPLIT = ("train.npz", "val.npz", "test.npz", "train_tuning.npz", "manifest.json")
WRITTEN = {
    "split": SPLIT,
    "train": ("best_model.pt", "loss_history.json", "resolved_config.yaml", "run.json"),
    "baselines": tuple(f"ridge/seed0/{name}" for name in ("best_model.pt", "resolved_config.yaml", "run.json")),
    "evaluate": EVALUATION,
    "evaluate_part": ("counts.npz",),
    "ensemble": ("resolved_config.yaml", "run.json", *(f"evaluation_results/{name}" for name in EVALUATION)),
    "tune": ("best_config.yaml", "trials.csv"),
    "report": ("index.html", "leaderboard.csv", "leaderboard.svg", "costs.svg"),
}
ABSENT = [("train", "checkpoint.pt"), ("train", "best_before_divergence.pt")]
CASES = [(step, name) for step, names in WRITTEN.items() for name in names]


def saved(content: object, **how: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **how)
    return stream.getvalue()


def arrays(**content: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **content)
    return stream.getvalue()


MINE = {
    ".json": b'{"name": "my web page", "icons": []}',
    ".yaml": b"_target_: mine.Trainer\nmodel: resnet50\n",
    ".npz": arrays(x=np.ones(3), y=np.ones(3)),
    ".pt": saved({"state_dict": {"weight": torch.ones(3)}, "epoch": 3}),
    ".html": b"<!doctype html>\n<title>My site</title>\n",
    ".csv": b"team,points\nmine,3\n",
    ".svg": b"<svg xmlns='http://www.w3.org/2000/svg'><title>My drawing</title></svg>",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("step", "name"), [*CASES, *ABSENT])
def test_a_step_stops_before_a_file_that_is_no_result(step, name, chain, tmp_path):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(MINE[path.suffix])
    with pytest.raises(UserError) as refused:
        chain.steps[step].run(tmp_path / "out")
    assert str(refused.value) == (
        f"{path} is no result of this project and would be replaced: move it away, or choose another --output-dir"
    )
    assert contents(tmp_path / "out") == {name: MINE[path.suffix]}


@pytest.mark.parametrize("step", WRITTEN)
def test_a_step_replaces_its_own_results(step, chain, tmp_path):
    shutil.copytree(chain.results / step, tmp_path / "out")
    assert set(WRITTEN[step]) <= set(contents(tmp_path / "out"))
    chain.steps[step].run(tmp_path / "out")


@pytest.mark.parametrize(("step", "name"), CASES)
def test_a_result_that_was_cut_off_may_be_replaced(step, name, chain, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = (chain.results / step / name).read_bytes()
    for length in (0, len(whole) // 2):
        path.write_bytes(whole[:length])
        refuse_foreign_results(tmp_path, [name])
    path.write_bytes(bytes(len(whole)))
    refuse_foreign_results(tmp_path, [name])


def test_the_checkpoint_of_a_training_is_a_result_and_a_link_that_leads_nowhere_is_no_file(
    chain, tmp_path, monkeypatch
):
    monkeypatch.setattr("frozenalign.training.checkpoints.Checkpoint.remove", lambda self: None)
    training = chain.steps["train"]
    training.main([*training.arguments, "--output-dir", str(tmp_path), "--checkpoint-seconds", "0"])
    assert (tmp_path / "checkpoint.pt").exists()
    (tmp_path / "run.json").unlink()
    (tmp_path / "run.json").symlink_to(tmp_path / "absent")
    refuse_foreign_results(tmp_path, ["checkpoint.pt", "run.json"])


class Module:
    """A whole model as torch.save writes it, which only its own code can read."""


@pytest.mark.parametrize(
    "content",
    [
        saved(torch.ones(3)),
        saved([1, 2]),
        saved({"model": Module(), "arguments": {"format": 1, "epochs": 3}}),
        saved({"format": "mine"}),
        saved({"format": True}),
        saved({"weight": torch.ones(2)}, _use_new_zipfile_serialization=False),
        pickle.dumps({"weight": 1}),
        arrays(weight=np.ones(2)),
    ],
)
def test_models_of_any_other_kind_are_told_apart_and_not_read(content, tmp_path):
    (tmp_path / "best_model.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"best_model\.pt is no result of this project"):
        refuse_foreign_results(tmp_path, ["best_model.pt"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", b'{"loss": NaN}\n{"loss": 0.5}\n'),
        ("metrics.json", b"[1, 2]"),
        ("metrics.json", b'{"format": "1"}'),
        ("metrics.json", b'{"format": true}'),
        ("resolved_config.yaml", b"model: {type: mlp}\nloss: {type: infonce}\n"),
        ("resolved_config.yaml", b"format: coco\n"),
        ("resolved_config.yaml", b"data: {format: 1}\nlist: [format, 1]\n"),
        ("resolved_config.yaml", b"model: !!python/object:mine.Model {a: 1}\n1: &x 2\nb: *x\n"),
        ("resolved_config.yaml", b"- format\n- 1\n"),
        ("best_config.yaml", b"model: {type: mlp}\n"),
        ("trials.csv", b"number;state\n"),
        ("trials.csv", b"phone_number,state\n"),
        ("leaderboard.csv", "Mannschaft,Länge\n".encode("latin-1")),
        ("index.html", "<!doctype html><title>mine</title>".encode("utf-16")),
    ],
)
def test_other_texts_are_told_apart(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"is no result of this project"):
        refuse_foreign_results(tmp_path, [name])


def test_a_file_that_is_larger_than_any_result_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr("frozenalign.configuration.foreign_results.JSON_BYTES", 10)
    (tmp_path / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(UserError, match=r"is no result of this project"):
        refuse_foreign_results(tmp_path, ["manifest.json"])


def test_a_manifest_under_another_name_is_read_and_another_file_is_not_to_be_deleted(chain, tmp_path):
    path = tmp_path / "copy.json"
    shutil.copy(chain.results / "split" / "manifest.json", path)
    assert read_result(path, "manifest.json") == read_result(chain.results / "split" / "manifest.json")
    arguments = list(chain.steps["report"].arguments)
    arguments[arguments.index("--manifest") + 1] = str(path)
    chain.steps["report"].main([*arguments, "--output-dir", str(tmp_path / "report")])
    for content, said in (({}, "has the format 'none'"), ({"format": 2}, "is missing")):
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=rf"copy\.json.*{said}.*[:;] give the path of a manifest\.json$"):
            chain.steps["report"].main([*arguments, "--output-dir", str(tmp_path / "second")])
        assert not (tmp_path / "second").exists()

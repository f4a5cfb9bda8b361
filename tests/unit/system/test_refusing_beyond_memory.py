"""Work that takes more memory than there is, is refused before it begins, in one sentence with the remedy."""

import pytest
import torch

from frozenalign.closed_forms import choice
from frozenalign.system import memory
from frozenalign.system.errors import UserError
from frozenalign.training.starts import fit_start
from workflow.scripts import baselines, evaluate


@pytest.fixture
def nothing_left(monkeypatch) -> None:
    monkeypatch.setattr(memory, "memory_left", lambda: 1000)


def test_what_fits_is_not_refused(monkeypatch):
    monkeypatch.setattr(memory, "memory_left", lambda: 10**9)
    memory.refuse_beyond_memory(10**9, "this", "that")
    with pytest.raises(UserError, match=r"^this takes 2 GB of memory where 1 GB are left: that$"):
        memory.refuse_beyond_memory(2 * 10**9, "this", "that")


def test_wider_rows_take_more(monkeypatch):
    needed = []
    monkeypatch.setattr(choice, "refuse_beyond_memory", lambda count, *_: needed.append(count))
    for widths in ((10, 20), (10, 40), (1152, 4096)):
        choice.refuse_too_wide(*widths, val_images=1000, val_texts=5000)
    assert needed == sorted(needed)
    assert needed[-1] < 1.2e9


def test_baselines_are_refused_before_any_row_is_read(nothing_left, data_dir, split_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "load_pairs", None)
    folders = ["--data-dir", str(data_dir), "--split-dir", str(split_dir), "--output-dir", str(tmp_path)]
    with pytest.raises(UserError, match=r"fitting closed forms of 12 image and 9 text dimensions takes .*baselines"):
        baselines.main(["--baselines", "ridge", *folders])


def test_a_start_that_is_fitted_is_refused_like_a_baseline(nothing_left, data):
    with pytest.raises(UserError, match="fitting closed forms of 12 image"):
        fit_start(data)


def test_an_evaluation_is_refused_before_any_pair_is_projected(
    nothing_left, data_dir, split_dir, tmp_path, monkeypatch
):
    folders = ["--data-dir", str(data_dir), "--split-dir", str(split_dir)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "memory_left", lambda: 10**9)
        baselines.main(["--baselines", "ridge", *folders, "--output-dir", str(tmp_path)])
    monkeypatch.setattr("frozenalign.evaluation.evaluated_sets.project_files", None)
    model = tmp_path / "ridge/seed0/best_model.pt"
    assert torch.load(model, weights_only=True)
    with pytest.raises(UserError, match=r"evaluating 10 images and 30 texts takes .* are left: give the job more, or"):
        evaluate.main(["--model", str(model), *folders, "--output-dir", str(tmp_path / "out"), "--device", "cpu"])

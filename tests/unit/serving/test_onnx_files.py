"""ONNX files compute what PyTorch does, for any number of rows."""

from pathlib import Path

import numpy as np
import pytest
import torch

from frozenalign.serving import onnx_files
from frozenalign.serving.folding import fold, tried_rows
from frozenalign.serving.onnx_files import LARGEST_DIFFERENCE, graphs, write_onnx
from frozenalign.system.errors import UserError
from tests.small_training import SMALL
from tests.unit.serving.conftest import random_model

onnxruntime = pytest.importorskip("onnxruntime", reason="envs/requirements-export.txt is not installed")
pytest.importorskip("onnxscript", reason="envs/requirements-export.txt is not installed")


def outputs(path: Path, **rows: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: each.numpy() for name, each in rows.items()})[0])


@pytest.mark.parametrize("head", SMALL)
def test_every_head_projects_1_3_and_1000_rows_as_pytorch_does(head, tmp_path):
    model = random_model(head, hub_prototypes=6, skip="cca")
    # Both towers are of one type: one of them, in turn.
    modality = "image" if list(SMALL).index(head) % 2 else "text"
    graph = next(each for each in graphs(fold(model) or model, model) if each.file == f"{modality}.onnx")
    assert write_onnx(tmp_path, graph) < LARGEST_DIFFERENCE
    for count in (1, 3, 1000):
        rows = tried_rows(getattr(model, f"{modality}_statistics"), count)
        expected = model.encode_images(rows) if modality == "image" else model.encode_texts(rows)
        assert (outputs(tmp_path / graph.file, embeddings=rows) - expected).abs().max() < 1e-5


def test_the_pair_scorer_scores_as_the_second_stage_does(tmp_path):
    model = random_model("cross_modal", skip="cca")
    torch.manual_seed(0)
    torch.nn.init.normal_(model.scorer.compare[-1].weight)
    image, text, scorer = graphs(model, model)
    write_onnx(tmp_path, scorer)
    images, texts = tried_rows(model.image_statistics, 5), tried_rows(model.text_statistics, 5)
    tokens = [
        tower.with_tokens(statistics(rows))[1]
        for tower, statistics, rows in (
            (model.image_tower, model.image_statistics, images),
            (model.text_tower, model.text_statistics, texts),
        )
    ]
    cosines = (model.encode_images(images) * model.encode_texts(texts)).sum(1)
    expected = model.scorer(model.scorer.image_parts(tokens[0]), model.scorer.text_parts(tokens[1]), cosines)
    found = outputs(tmp_path / scorer.file, image_embeddings=images, text_embeddings=texts)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.1
    assert (image.file, text.file, scorer.file) == ("image.onnx", "text.onnx", "pair_scorer.onnx")


def test_a_file_holds_nothing_of_this_machine_and_the_same_model_gives_the_same_bytes(tmp_path):
    model = random_model("linear")
    for folder in ("first", "second"):
        write_onnx(tmp_path / folder, graphs(model, model)[0])
    first, second = ((tmp_path / folder / "image.onnx").read_bytes() for folder in ("first", "second"))
    assert first == second
    assert str(Path(onnx_files.__file__).parent).encode() not in first


def test_a_file_that_differs_from_the_trained_model_is_not_written(tmp_path):
    model, other = random_model("linear"), random_model("linear")
    other.image_tower.bias.add_(1e-3)
    with pytest.raises(UserError, match=r"image\.onnx would differ from the trained model by .*--without-onnx"):
        write_onnx(tmp_path, graphs(other, model)[0])
    assert not list(tmp_path.iterdir())


def test_a_head_that_cannot_be_exported_is_one_sentence(tmp_path):
    class Sorting(torch.nn.Module):
        def forward(self, x):
            return torch.from_numpy(np.sort(x.numpy(), axis=1))

    model = random_model("linear")
    model.image_tower = Sorting()
    with pytest.raises(UserError, match=r"image\.onnx: this head cannot be exported .*--without-onnx`$"):
        write_onnx(tmp_path, graphs(model, model)[0])


def test_a_missing_library_is_one_sentence_with_the_command(monkeypatch):
    def missing(name, install):
        raise UserError(f"the library {name} cannot be imported: run `{install}`")

    monkeypatch.setattr(onnx_files, "imported", missing)
    with pytest.raises(UserError, match=r"run `pip install -r envs/requirements-export.txt`, or leave .*-onnx`$"):
        onnx_files.refuse_without_libraries()

"""The model and its file: what goes in comes out, other files are refused and never unpickled; momentum copies."""

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from frozenalign.models import dual_encoder
from frozenalign.models.dual_encoder import DualEncoder, Standardize, WhitenedTower, unit
from frozenalign.models.model_file import FORMAT, load_heads, read_checkpoint, save_heads, write_checkpoint
from frozenalign.system.errors import UserError
from frozenalign.training.averaging import MomentumCopy

IMAGE_DIM, TEXT_DIM = 12, 9
ALIGN = {"type": "align", "output_dim": 4, "hidden_dim": 8, "use_bn": True, "dropout": 0.1}


def used_model() -> DualEncoder:
    """Return a model whose statistics and running means are not those of a new one."""
    torch.manual_seed(0)
    model = DualEncoder(ALIGN, IMAGE_DIM, TEXT_DIM)
    for statistics in (model.image_statistics, model.text_statistics):
        statistics.mean.normal_()
        statistics.scale.uniform_(0.5, 2.0)
    for _ in range(3):
        model.encode_images(torch.randn(20, IMAGE_DIM))
        model.encode_texts(torch.randn(20, TEXT_DIM))
    return model


def test_standardising_is_by_dimension_and_in_float32():
    layer = Standardize(2)
    layer.mean.copy_(torch.tensor([1.0, 2.0]))
    layer.scale.copy_(torch.tensor([0.5, 4.0]))
    found = layer(torch.tensor([[1.0, 2.0], [2.0, 10.0]], dtype=torch.float16))
    assert found.dtype == torch.float32
    assert found.tolist() == [[0.0, 0.0], [2.0, 2.0]]
    assert list(layer.parameters()) == []


def test_unit_vectors_have_length_one_and_keep_their_direction():
    found = unit(torch.tensor([[3.0, 4.0], [0.0, -1e-3]], dtype=torch.bfloat16))
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.0, -1.0]]))


def test_an_encoder_standardises_then_projects_then_normalises():
    model = DualEncoder({"type": "linear", "output_dim": 3}, 2, 2)
    model.image_statistics.mean.fill_(1.0)
    model.image_statistics.scale.fill_(2.0)
    x = torch.randn(5, 2)
    weight, bias = (value.detach().double().numpy() for value in model.image_tower.parameters())
    expected = (x.double().numpy() - 1) / 2 @ weight.T + bias
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode_images(x).detach().numpy(), expected, atol=1e-6)


def test_a_saved_model_comes_back_with_weights_statistics_and_facts(tmp_path):
    model, facts = used_model(), {"epoch": 7, "selected": {"split": "val", "RSUM": 12.5}, "hash": "abc", "note": None}
    save_heads(tmp_path / "best_model.pt", model, facts)
    loaded, loaded_facts = load_heads(tmp_path / "best_model.pt")
    assert loaded_facts == facts
    assert loaded.settings == ALIGN
    assert not loaded.training
    assert list(loaded.state_dict()) == list(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    x, y = torch.randn(6, IMAGE_DIM), torch.randn(6, TEXT_DIM)
    model.eval()
    assert torch.equal(loaded.encode_images(x), model.encode_images(x))
    assert torch.equal(loaded.encode_texts(y), model.encode_texts(y))


def test_a_file_holds_tensors_and_plain_values_only_and_the_same_model_gives_the_same_bytes(tmp_path):
    for name in ("first.pt", "second.pt"):
        save_heads(tmp_path / name, used_model(), {"epoch": 1})
    assert (tmp_path / "first.pt").read_bytes() == (tmp_path / "second.pt").read_bytes()
    content = torch.load(tmp_path / "first.pt", weights_only=True)
    assert content["input_dims"] == {"image": IMAGE_DIM, "text": TEXT_DIM}
    assert all(isinstance(value, torch.Tensor) and not value.requires_grad for value in content["state"].values())


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "best_model.pt"
    save_heads(path, used_model(), {"epoch": 1})

    def full_disk(content, stream) -> None:
        stream.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(dual_encoder.torch, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_heads(path, used_model(), {"epoch": 2})
    assert load_heads(path)[1] == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_loaded_model_refuses_embeddings_of_another_width(modality, tmp_path):
    save_heads(tmp_path / "best_model.pt", used_model(), {})
    loaded, _ = load_heads(tmp_path / "best_model.pt")
    encode, width = {"image": (loaded.encode_images, IMAGE_DIM), "text": (loaded.encode_texts, TEXT_DIM)}[modality]
    with pytest.raises(UserError, match=rf"takes {modality} embeddings of {width} dimensions but got {width + 1}"):
        encode(torch.randn(2, width + 1))


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("form", ["pickle", "archive", "archive, inside a dictionary"])
def test_a_file_with_objects_is_refused_without_unpickling_them(form, tmp_path):
    path, mark = tmp_path / "best_model.pt", tmp_path / "mark"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Trap(mark), protocol=2))
    else:
        torch.save({"format": 1, "facts": Trap(mark)} if "dictionary" in form else Trap(mark), path)
    with pytest.raises(UserError, match=r"best_model.pt is damaged or not a model of this project: .* train again"):
        load_heads(path)
    assert not mark.exists()


def test_the_trap_of_the_test_above_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_file_that_was_cut_off_is_refused(share, tmp_path):
    path = tmp_path / "best_model.pt"
    save_heads(path, used_model(), {})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="damaged"):
        load_heads(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "is not a model of this project"),
        ({"epoch": 3}, f"has format None, this version reads {FORMAT}"),
        ({"format": FORMAT + 1}, f"has format {FORMAT + 1}, this version reads {FORMAT}"),
        ({"format": FORMAT, "model": {"type": "vanished"}}, "holds the head 'vanished', which is not registered"),
    ],
)
def test_a_file_that_is_no_model_of_this_version_says_why(content, said, tmp_path):
    torch.save(content, tmp_path / "best_model.pt")
    with pytest.raises(UserError, match=said):
        load_heads(tmp_path / "best_model.pt")


def test_a_file_that_is_not_there_says_which_step_makes_it(tmp_path):
    with pytest.raises(UserError, match=r"best_model.pt not found: run the training step first"):
        load_heads(tmp_path / "best_model.pt")


def test_a_checkpoint_comes_back_as_it_was_written(tmp_path):
    content = {"weights": torch.randn(3), "history": [{"epoch": 0, "loss": 0.5}], "best": -float("inf")}
    write_checkpoint(tmp_path / "folder" / "checkpoint.pt", content)
    found = read_checkpoint(tmp_path / "folder" / "checkpoint.pt")
    assert torch.equal(found.pop("weights"), content.pop("weights"))
    assert found == content


@pytest.fixture
def loaded(tmp_path) -> DualEncoder:
    save_heads(tmp_path / "best_model.pt", used_model(), {})
    return load_heads(tmp_path / "best_model.pt")[0]


@pytest.fixture
def rows() -> np.ndarray:
    """Return embeddings that every number format holds exactly, (6, D)."""
    return np.random.default_rng(0).integers(-100, 100, (6, IMAGE_DIM)).astype(np.float32)


def test_a_loaded_model_computes_without_a_graph(loaded):
    images, texts = loaded.encode_images(torch.randn(4, IMAGE_DIM)), loaded.encode_texts(torch.randn(5, TEXT_DIM))
    assert images.numpy().shape == (4, 4)
    assert (images @ texts.T).numpy().shape == (4, 5)


def read_only(rows: np.ndarray) -> np.ndarray:
    rows.flags.writeable = False
    return rows


def mapped(rows: np.ndarray, path: Path) -> np.ndarray:
    rows.tofile(path)
    return np.memmap(path, rows.dtype, "r", shape=rows.shape)


FORMS = {
    **{name: lambda rows, _, name=name: rows.astype(name) for name in ("f2", "f4", "f8", ">f4", "i1", "i8", "g")},
    "read-only": lambda rows, _: read_only(rows),
    "mapped": lambda rows, path: mapped(rows, path),
    "columns first": lambda rows, _: np.asfortranarray(rows),
    "backwards": lambda rows, _: rows[::-1, ::-1].copy()[::-1, ::-1],
    "every second": lambda rows, _: np.repeat(rows, 2, axis=0)[::2],
    **{
        f"tensor of {dtype}": lambda rows, _, dtype=dtype: torch.from_numpy(rows).to(dtype)
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
    },
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", FORMS)
def test_tensors_and_arrays_of_any_number_format_and_layout_give_the_same(form, loaded, rows, tmp_path):
    expected, before = loaded.encode_images(torch.from_numpy(rows.copy())), rows.copy()
    given = FORMS[form](rows, tmp_path / "rows.bin")
    assert torch.equal(loaded.encode_images(given), expected)
    torch.testing.assert_close(loaded.encode_images(given[1]), expected[1])
    assert np.array_equal(rows, before)


@pytest.mark.filterwarnings("error")
def test_a_number_beyond_float32_is_nan_in_the_end_from_an_array_as_from_a_tensor(loaded, rows):
    large = rows.astype(np.float64)
    large[0, 0] = 1e300
    for given in (large, torch.from_numpy(large)):
        assert loaded.encode_images(given).isnan().any(1).tolist() == [True] + [False] * 5


OTHERS = {
    "list": [[1.0] * IMAGE_DIM],
    "list of unequal rows": [[1.0], [1.0, 2.0]],
    "nothing": None,
    "text": "embeddings",
    "one number": np.float32(1),
    "objects": np.array([[None] * IMAGE_DIM]),
    "strings": np.array([["1"] * IMAGE_DIM]),
    "fields": np.zeros(IMAGE_DIM, dtype=[("x", "f4")]),
    "dates": np.zeros((2, IMAGE_DIM), dtype="datetime64[s]"),
    "truth values": np.ones((2, IMAGE_DIM), dtype=bool),
    "complex": np.ones((2, IMAGE_DIM), dtype=complex),
    "masked": np.ma.masked_less(np.ones((2, IMAGE_DIM)), 0),
    "tensor of truth values": torch.ones(2, IMAGE_DIM, dtype=torch.bool),
    "complex tensor": torch.ones(2, IMAGE_DIM, dtype=torch.complex64),
    "sparse tensor": torch.ones(2, IMAGE_DIM).to_sparse(),
    "no dimensions": np.ones(()),
    "three dimensions": torch.ones(1, 2, IMAGE_DIM),
    "no columns": np.ones((0, 0)),
    "another width": np.ones(IMAGE_DIM + 1),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_holds_no_embeddings_is_refused_in_one_sentence(kind, loaded):
    with pytest.raises(UserError, match=r"^the model takes image embeddings .* but got [^\n]*: [^\n]*$"):
        loaded.encode_images(OTHERS[kind])


def test_copies_of_a_loaded_model_compute_the_same(loaded, rows):
    expected = loaded.encode_images(rows)
    for other in (copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))):
        assert torch.equal(other.encode_images(rows), expected)


def test_a_model_may_be_loaded_and_used_in_inference_mode(loaded, rows, tmp_path):
    expected = loaded.encode_images(rows)
    with torch.inference_mode():
        inside, _ = load_heads(tmp_path / "best_model.pt")
        assert torch.equal(inside.encode_images(rows), expected)
    assert torch.equal(inside.encode_images(rows), expected)


@pytest.fixture
def other_defaults() -> Iterator[None]:
    """Let PyTorch make what it is not told otherwise in float64, on a device that holds no values."""
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


def test_the_defaults_of_pytorch_change_neither_a_loaded_model_nor_what_it_takes(
    loaded, rows, tmp_path, other_defaults
):
    again, _ = load_heads(tmp_path / "best_model.pt")
    assert torch.get_default_dtype() == torch.float64
    assert {(value.device.type, value.is_floating_point()) for value in again.parameters()} == {("cpu", True)}
    assert torch.equal(again.encode_images(rows), loaded.encode_images(rows))


def test_rows_of_another_device_are_moved_to_that_of_the_model(rows):
    model = used_model().eval().to("meta")
    assert model.encode_images(rows).device.type == "meta"
    assert model.encode_images(torch.from_numpy(rows)[0]).shape == (4,)


def test_a_momentum_copy_starts_equal_and_moves_only_when_told():
    model = used_model()
    copy = MomentumCopy(model, 0.5)
    before = {name: value.clone() for name, value in copy.state_dict().items()}
    for name, value in before.items():
        assert torch.equal(value, model.state_dict()[name]), name
    nn.init.zeros_(model.image_tower[0].weight)
    model.image_tower(torch.randn(5, IMAGE_DIM))
    assert all(torch.equal(value, before[name]) for name, value in copy.state_dict().items())


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.995])
def test_a_momentum_copy_is_the_moving_average_of_weights_and_buffers(momentum):
    model = used_model()
    copy = MomentumCopy(model, momentum)
    expected = {name: value.double() for name, value in copy.state_dict().items()}
    for _ in range(5):
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter))
        model.encode_images(torch.randn(20, IMAGE_DIM))
        model.encode_texts(3 * torch.randn(20, TEXT_DIM))
        copy.update(model)
        for name, value in expected.items():
            expected[name] = momentum * value + (1 - momentum) * model.state_dict()[name].double()
    assert any("running_var" in name for name in expected)
    for name, value in copy.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert value.item() == model.state_dict()[name].item() == 8
        else:
            torch.testing.assert_close(value.double(), expected[name], atol=1e-5, rtol=1e-5)


def test_a_momentum_copy_learns_nothing_by_itself():
    copy = MomentumCopy(used_model(), 0.9)
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    assert not copy.image_tower(torch.randn(5, IMAGE_DIM)).requires_grad


def test_a_whitening_matrix_that_has_changed_counts_in_every_format():
    tower = WhitenedTower(torch.nn.Identity(), 3)
    rows = torch.eye(3)
    for scale in (2.0, 4.0):
        tower.matrix.copy_(scale * torch.eye(3))
        for format in (torch.float32, torch.bfloat16, torch.float16):
            assert torch.equal(tower(rows.to(format)), (scale * rows).to(format))
    loaded = copy.deepcopy(tower)
    loaded.load_state_dict({"matrix": 8 * torch.eye(3)})
    assert torch.equal(loaded(rows.bfloat16()), 8 * rows.bfloat16())
    assert torch.equal(tower(rows.bfloat16()), 4 * rows.bfloat16())


def test_the_matrix_is_cast_once_for_all_steps():
    tower = WhitenedTower(torch.nn.Identity(), 3)
    rows = torch.eye(3).bfloat16()
    tower(rows)
    cast = tower._cast[1]
    tower(rows)
    assert tower._cast[1] is cast

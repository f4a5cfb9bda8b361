"""Short memory: work goes on in smaller pieces with the same result; if that fails, an error names the setting."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from frozenalign.evaluation import projections, reranking
from frozenalign.evaluation import ranks as retrieval
from frozenalign.evaluation import tiles as scores
from frozenalign.evaluation.projections import project_standardized
from frozenalign.evaluation.ranks import retrieval_ranks
from frozenalign.losses import key_sums, tiled
from frozenalign.losses.registry import build_loss
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.models.heads import MLPTower
from frozenalign.system.errors import UserError
from frozenalign.system.products import product
from frozenalign.system.random_state import random_state, restore_random_state
from frozenalign.training.checkpoints import Checkpoint
from frozenalign.training.fit import fit
from frozenalign.training.micro_batches import BatchFeatures
from tests.small_training import STATEFUL, experiment

ROOT = Path(__file__).parents[2]
WITHOUT_DROPOUT = [(head, loss) for head, loss in [*STATEFUL, ("linear", {"type": "infonce"})] if head != "align"]


NO_ROOM = "CUDA out of memory. Tried to allocate 2.00 GiB"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _found_sizes_end_with_a_test() -> Iterator[None]:
    yield
    for sizes in (retrieval.score_tiles, projections.projected_rows, reranking.reranked_queries):
        sizes.found.clear()


def limited_to(rows: int, function):
    """Return a tower's function as it would be on a device that can train no more rows at once."""

    def limited(self, x):
        if self.training and len(x) > rows:
            raise torch.OutOfMemoryError(NO_ROOM)
        return function(self, x)

    return limited


class SmallTiles:
    """Products as on a device that has no memory for more than some rows; refused counts those that were too large."""

    def __init__(self, rows: int) -> None:
        self.rows, self.refused = rows, 0

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if len(x) > self.rows:
            self.refused += 1
            raise torch.OutOfMemoryError(NO_ROOM)
        return product(x, y)


class CrowdedDevice:
    """A device on which the activations of more than some rows leave no room for a tile of a loss, however small."""

    def __init__(self, rows: int, monkeypatch) -> None:
        self.rows, self.held, self.refused = rows, 0, 0
        forward = MLPTower.forward

        def counted(tower: MLPTower, x: torch.Tensor) -> torch.Tensor:
            self.held = len(x) if torch.is_grad_enabled() else 0
            return forward(tower, x)

        monkeypatch.setattr(MLPTower, "forward", counted)
        for module in (tiled, key_sums):
            monkeypatch.setattr(module, "product", self.product)

    def product(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if self.held > self.rows:
            self.refused += 1
            raise torch.OutOfMemoryError(NO_ROOM)
        return product(x, y)


@pytest.mark.parametrize(("head", "loss"), WITHOUT_DROPOUT, ids=str)
def test_a_training_in_parts_of_batches_ends_where_one_in_whole_batches_does(head, loss, data, monkeypatch, caplog):
    without = {"dropout": 0.0} if head != "linear" else {}
    settings = experiment(head, loss, model=without, num_epochs=3)
    whole = fit(settings, data, seed=0)
    tower = type(whole.model.image_tower)
    with monkeypatch.context() as patched:
        patched.setattr(tower, "forward", limited_to(20, tower.forward))
        if hasattr(tower, "with_tokens"):
            patched.setattr(tower, "with_tokens", limited_to(20, tower.with_tokens))
        in_parts = fit(settings, data, seed=0)
    assert (whole.part, in_parts.part) == ({}, {"cpu": 16})
    assert caplog.text.count("going on with 16 rows of a batch at once") == 1
    assert [record["loss"] for record in in_parts.history[1:]] == pytest.approx(
        [record["loss"] for record in whole.history[1:]], rel=2e-3
    )


def test_gradients_in_parts_are_those_of_the_whole_batch_in_float64():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(50, 12, generator=generator, dtype=torch.float64)
    found = {}
    for part in (50, 16, 7):
        torch.manual_seed(0)
        tower = torch.nn.Sequential(torch.nn.Linear(12, 8), torch.nn.GELU(), torch.nn.Linear(8, 4)).double()

        def function(rows: torch.Tensor, tower=tower) -> tuple:
            return torch.nn.functional.normalize(tower(rows), dim=1), tower(rows**2)

        features = BatchFeatures(function, [rows], part)
        value = torch.nn.functional.cross_entropy(features.outputs[0] @ features.outputs[1].T, torch.arange(50))
        value.backward()
        features.backward()
        found[part] = [value, *(parameter.grad for parameter in tower.parameters())]
    for part in (16, 7):
        for whole, split in zip(found[50], found[part], strict=True):
            torch.testing.assert_close(split, whole, rtol=1e-10, atol=1e-12)


def test_dropout_has_the_same_masks_when_a_part_is_taken_again():
    rows, weight = torch.ones(40, 6), torch.ones(6, requires_grad=True)
    dropout = torch.nn.Dropout(0.5)
    torch.manual_seed(3)
    before = random_state(rows.device)
    features = BatchFeatures(lambda rows: [dropout(rows) * weight], [rows], 16)
    value = features.outputs[0].sum()
    value.backward()
    features.backward()
    after = random_state(rows.device)
    restore_random_state(before)
    masks = torch.cat([dropout(rows[start : start + 16]) for start in (0, 16, 32)])
    assert torch.equal(weight.grad, masks.sum(0))
    assert value == masks.sum()
    assert torch.equal(random_state(rows.device)["cpu"], after["cpu"])


def test_a_head_that_normalises_over_the_batch_says_what_to_lower(data, monkeypatch):
    tower = type(DualEncoder(experiment("align").model, 12, 9).image_tower)
    monkeypatch.setattr(tower, "forward", limited_to(20, tower.forward))
    with pytest.raises(UserError, match=r"even with 30 rows of a batch at once: lower training\.batch_size"):
        fit(experiment("align", {"type": "align"}), data, seed=0)


@pytest.mark.parametrize(
    "loss", [{"type": "siglip"}, {"type": "clip"}, {"type": "queue", "queue_size": 300}, {"type": "blip"}], ids=str
)
def test_rows_are_halved_where_their_activations_leave_no_room_for_the_smallest_tile(loss, data, monkeypatch, caplog):
    """After one step, AdamW's running means are a tenth of its gradients."""
    one_step = {"batch_size": len(data.train), "num_epochs": 1, "same_image": "masked"}
    settings = experiment("mlp", loss, model={"dropout": 0.0}, **one_step)
    whole = fit(settings, data, seed=0)
    device = CrowdedDevice(60, monkeypatch)
    in_parts = fit(settings, data, seed=0)
    assert in_parts.part == {"cpu": 60}
    assert in_parts.loss.tiles.found == {}
    assert device.refused == 4  # Tiles of 512, 256, 128 and 64, all of 120 rows.
    assert "going on with 60 rows of a batch at once" in caplog.text
    assert whole.step == in_parts.step == 1
    for mine, expected in zip(in_parts.optimizer.means, whole.optimizer.means, strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-7)


def test_sizes_that_were_found_are_kept_for_the_next_steps(data, monkeypatch):
    device = CrowdedDevice(16, monkeypatch)
    settings = experiment("mlp", model={"dropout": 0.0}, batch_size=60, num_epochs=3, same_image="masked")
    trained = fit(settings, data, seed=0)
    assert trained.step == 6
    assert trained.part == {"cpu": 30}
    assert device.refused == 4


def test_a_resumed_training_goes_on_in_the_parts_that_were_found(data, tmp_path, monkeypatch):
    settings = experiment("mlp", model={"dropout": 0.0}, batch_size=60, num_epochs=3, same_image="masked")
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", "mine", seconds=1000.0)

    def interrupt(record: dict) -> None:
        if record["epoch"] == 1:
            raise KeyboardInterrupt

    device = CrowdedDevice(16, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        fit(settings, data, 0, on_epoch=interrupt, checkpoint=checkpoint)
    device.refused = 0
    resumed = fit(settings, data, 0, checkpoint=checkpoint)
    assert (resumed.step, resumed.part, device.refused) == (6, {"cpu": 30}, 0)


def test_tiles_that_fit_are_kept_for_the_next_steps(data, monkeypatch):
    small = SmallTiles(64)
    monkeypatch.setattr(tiled, "product", small)
    settings = experiment("mlp", batch_size=120, num_epochs=3, same_image="masked")
    trained = fit(settings, data, seed=0)
    assert trained.part == {}
    assert trained.loss.tiles.found == {"cpu": 64}
    assert small.refused == 3


def test_only_the_smallest_rows_beside_the_smallest_tile_end_a_training(data, monkeypatch):
    monkeypatch.setattr(tiled, "product", SmallTiles(0))
    with pytest.raises(UserError, match=r"even with 16 rows of a batch at once: lower training\.batch_size"):
        fit(experiment("mlp"), data, seed=0)


def test_losses_and_ranks_are_the_same_in_smaller_tiles_which_are_found_once(monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.nn.functional.normalize(torch.randn(700, 8, generator=generator), dim=1) for _ in "xy")
    losses = [build_loss({"type": name}, 700) for name in ("siglip", "clip")]

    def all_results() -> tuple:
        results = []
        for loss in losses:
            leaf = x.clone().requires_grad_()
            value = loss(leaf, y, torch.arange(700))
            value.backward()
            results += [value.detach(), leaf.grad]
        ranks = retrieval_ranks(x, y, torch.arange(700))
        return results, (ranks.t2i.tolist(), ranks.i2t.tolist())

    expected, expected_ranks = all_results()
    small = SmallTiles(200)
    for module in (tiled, scores):
        monkeypatch.setattr(module, "product", small)
    for _ in range(2):
        found, ranks = all_results()
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert ranks == expected_ranks
    assert small.refused == 3 * 2  # Tiles of 512 and 256.
    assert caplog.text.count("going on with 128 rows and columns of the loss at once") == 2
    assert caplog.text.count("going on with 128 rows and columns of the scores at once") == 1


def test_projections_are_the_same_from_fewer_rows_which_are_found_once(data, monkeypatch):
    model = DualEncoder(experiment().model, 12, 9)
    expected = project_standardized(model, data.train)
    refused, forward = [], MLPTower.forward

    def limited(tower: MLPTower, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 64:
            refused.append(len(x))
            raise torch.OutOfMemoryError(NO_ROOM)
        return forward(tower, x)

    monkeypatch.setattr(MLPTower, "forward", limited)
    for _ in range(2):
        found = project_standardized(model, data.train)
        torch.testing.assert_close(found.texts, expected.texts)
    assert len(data.train) == 120
    assert refused == [120] * 6  # 4096 to 128 rows at once.


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited this way on Linux alone")
def test_a_training_that_the_machine_has_no_memory_for_goes_on_in_parts():
    """The allocator itself refuses: the activations of the whole batch do not fit any more, those of a part do."""
    program = """
import resource, sys, torch
from tests.small_training import experiment, raw, rotated_pairs
from frozenalign.training.fit import fit
torch.set_num_threads(1)
wide = {"hidden_dim": 4096, "dropout": 0.0}
settings = experiment("mlp", {"type": "siglip"}, model=wide, batch_size=4096, num_epochs=1)
# What a training loads and keeps is there before memory is limited.
fit(settings, raw(rotated_pairs(64)), 0)
if room := int(sys.argv[1]):
    held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + room, -1))
trained = fit(settings, raw(rotated_pairs(4096)), 0)
print(trained.part.get("cpu", 4096), trained.history[-1]["loss"])
"""
    found = []
    for room in (0, 200 << 20):
        command = [sys.executable, "-c", program, str(room)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.split())
    whole, in_parts = found
    assert 256 <= int(in_parts[0]) < int(whole[0]) == 4096
    assert float(in_parts[1]) == pytest.approx(float(whole[1]), rel=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="own memory is limited this way on Linux alone")
@pytest.mark.parametrize(("image_dim", "text_dim"), [(64, 2048), (512, 512)])
def test_closed_forms_take_no_more_memory_than_they_are_said_to(image_dim, text_dim, tmp_path):
    program = """
import resource, sys, torch
import scipy.linalg
from pathlib import Path
from frozenalign.closed_forms.canonical_maps import CanonicalMaps, choose_canonical_maps, save_canonical_maps
from frozenalign.closed_forms.choice import choose_maps, model_of, needed_bytes
from frozenalign.closed_forms.decompositions import PrincipalAxes
from frozenalign.data.moments import Moments
from frozenalign.data.pairs import CAPTION_BYTES, ResidentPairs
from frozenalign.models.model_file import save_heads
torch.set_num_threads(1)
image_dim, text_dim = map(int, sys.argv[1:3])
images, texts = 100, 500
needed = needed_bytes(image_dim, text_dim, images, texts)
status = Path("/proc/self/status").read_text()
own = 1024 * int(status.split("VmData:")[1].split()[0])
resource.setrlimit(resource.RLIMIT_DATA, (own + needed, -1))
generator = torch.Generator().manual_seed(0)
def rows(count, width):
    return torch.randn(count, width, generator=generator)
val = ResidentPairs(rows(images, image_dim), rows(texts, text_dim), torch.arange(texts) // 5)
pairs = CAPTION_BYTES // (4 * (image_dim + text_dim))
chunks = ((rows(pairs, image_dim), rows(pairs, text_dim), torch.arange(pairs)) for _ in range(2))
moments = Moments.of_captions(chunks)
for name in ("ridge", "procrustes"):
    save_heads(Path(sys.argv[3]), model_of(choose_maps(name, moments, val).candidate.pair), {})
chosen = choose_canonical_maps(moments, val)
axes = [
    PrincipalAxes.of_standardized(covariance, torch.ones(len(covariance)))
    for covariance in (moments.image_covariance, moments.text_covariance)
]
save_canonical_maps(Path(sys.argv[3]), CanonicalMaps.of(chosen, axes), {})
"""
    command = [sys.executable, "-c", program, str(image_dim), str(text_dim), str(tmp_path / "model.pt")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

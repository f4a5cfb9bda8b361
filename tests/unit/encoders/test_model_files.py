"""Where the files of a model are found, what is said where they are not, and that nothing in them runs."""

import hashlib
import importlib
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from frozenalign.encoders.model_files import find_folder, find_model
from frozenalign.encoders.registry import ENCODERS, open_encoder
from frozenalign.system import optional_libraries
from frozenalign.system.errors import UserError
from tests.unit.encoders.tiny_models import settings

CPU = torch.device("cpu")
NAME, COMMIT = "owner/tiny-model", "0123456789abcdef0123456789abcdef01234567"
COMMAND = "run `hf download owner/tiny-model --include '*.safetensors' --include '*.json'"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the Hugging Face Hub."""
    hub = pytest.importorskip("huggingface_hub", reason="envs/requirements-encode.txt is not installed")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def put_into_cache(cache: Path, folder: Path, leave_out: str = "") -> None:
    """Lay a model out as the cache does: files by their hashes, and links to them below the commit."""
    home = cache / f"models--{NAME.replace('/', '--')}"
    snapshot = home / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    for path in folder.iterdir():
        if path.name != leave_out:
            blob = home / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
            shutil.copy(path, blob)
            (snapshot / path.name).symlink_to(blob)


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_model_in_the_cache_opens_without_a_network_and_its_commit_is_recorded(cache, tiny, revision):
    put_into_cache(cache, tiny("siglip"))
    facts = open_encoder(settings(NAME, revision=revision), "image", CPU).facts()
    assert facts["commit"] == COMMIT
    assert facts["weights"] == hashlib.sha256((tiny("siglip") / "model.safetensors").read_bytes()).hexdigest()
    assert facts["weights"] == find_model(settings(tiny("siglip"))).weights_hash


def test_a_model_that_is_not_in_the_cache_is_one_sentence_with_the_command_at_once(cache):
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        open_encoder(settings(NAME, pooling="mean"), "text", CPU)
    assert time.monotonic() - began < 30
    assert COMMAND in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_names_the_revision(cache):
    with pytest.raises(UserError, match=f"hf download owner/tiny-model --revision {COMMIT} --include"):
        find_model(settings(NAME, revision=COMMIT))


@pytest.mark.parametrize("leave_out", ["model.safetensors", "config.json", "preprocessor_config.json"])
def test_a_download_that_was_broken_off_is_the_same_sentence(cache, tiny, leave_out):
    put_into_cache(cache, tiny("siglip"), leave_out)
    with pytest.raises(UserError, match="is not, or not whole, in the cache of Hugging Face: run `hf download"):
        open_encoder(settings(NAME), "image", CPU)


@pytest.mark.parametrize("name", ["models/absent", "./absent", "absent", "a/b/c", "/absent/model", "~/absent-model"])
def test_a_folder_that_is_not_there_is_named(cache, name):
    with pytest.raises(UserError, match="encoder tiny: (name: )?" + name.replace(".", r"\.")):
        find_model(settings(name))


def test_a_folder_in_an_installed_package(tmp_path, monkeypatch):
    (tmp_path / "some_model" / "inside").mkdir(parents=True)
    (tmp_path / "some_model" / "__init__.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert find_model(settings("package:some_model/inside")).path == tmp_path / "some_model" / "inside"
    with pytest.raises(UserError, match="the package some_model has no outside"):
        find_model(settings("package:some_model/outside"))
    with pytest.raises(UserError, match=r"other_model, .*is not installed: run `pip install -r envs/req"):
        find_model(settings("package:other_model/inside"))


def test_a_damaged_file_of_weights_is_one_sentence(tiny, tmp_path):
    shutil.copytree(tiny("siglip"), tmp_path, dirs_exist_ok=True)
    content = (tmp_path / "model.safetensors").read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"\xff" * 4096):
        (tmp_path / "model.safetensors").write_bytes(damaged)
        with pytest.raises(UserError, match="cannot be opened by transformers") as caught:
            open_encoder(settings(tmp_path), "image", CPU)
        assert "\n" not in str(caught.value)


def test_weights_that_are_not_in_the_file_are_no_random_numbers(tiny, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    shutil.copytree(tiny("siglip"), tmp_path, dirs_exist_ok=True)
    weights = safetensors.load_file(tmp_path / "model.safetensors")
    del weights["vision_model.head.probe"]
    safetensors.save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"has no weights vision_model\.head\.probe \(of 1 that SiglipModel needs\)"):
        open_encoder(settings(tmp_path), "image", CPU)


def test_only_a_pooling_that_needs_the_pooler_misses_it(tiny, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    shutil.copytree(tiny("bert"), tmp_path, dirs_exist_ok=True)
    weights = safetensors.load_file(tmp_path / "model.safetensors")
    kept = {name: values for name, values in weights.items() if "pooler" not in name}
    safetensors.save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    assert open_encoder(settings(tmp_path, pooling="mean"), "text", CPU).encode(["dog"]).shape == (1, 16)
    with pytest.raises(UserError, match="has no weights pooler"):
        open_encoder(settings(tmp_path, pooling="pooled"), "text", CPU)


class Evil:
    """A pickle that would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_of_weights_is_never_run(tiny, tmp_path):
    folder, trace = tmp_path / "model", tmp_path / "it_ran"
    shutil.copytree(tiny("siglip"), folder)
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "weights.pth"):
        (folder / name).write_bytes(pickle.dumps(Evil(trace), protocol=2))
    with pytest.raises(UserError, match="is no folder that holds weights as"):
        open_encoder(settings(folder), "image", CPU)
    with pytest.raises(UserError, match="cannot be opened by efficientnet-lite0"):
        open_encoder(settings(folder / "weights.pth", library="efficientnet-lite0"), "image", CPU)
    assert not trace.exists()


def test_code_beside_a_model_is_never_run(tiny, tmp_path):
    from tests.unit.encoders.tiny_models import change_json

    shutil.copytree(tiny("siglip"), tmp_path, dirs_exist_ok=True)
    trace = tmp_path / "it_ran"
    (tmp_path / "modeling_evil.py").write_text(f"open({str(trace)!r}, 'w').close()", encoding="utf-8")
    auto = {"AutoConfig": "modeling_evil.Config", "AutoModel": "modeling_evil.Model"}
    change_json(tmp_path / "config.json", auto_map=auto, model_type="evil")
    with pytest.raises(UserError, match="cannot be opened by transformers"):
        open_encoder(settings(tmp_path), "image", CPU)
    assert not trace.exists()


def test_the_hash_of_several_files_is_that_of_their_hashes_and_names(tmp_path):
    parts = {"model-00001-of-00002.safetensors": b"one", "model-00002-of-00002.safetensors": b"two"}
    for name, content in parts.items():
        (tmp_path / name).write_bytes(content)
    lines = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in parts.items())
    assert find_folder(settings(tmp_path)).weights_hash == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize(
    ("library", "modality", "command"),
    [
        ("transformers", "image", "pip install -r envs/requirements-encode.txt"),
        ("transformers", "text", "pip install -r envs/requirements-encode.txt"),
        ("sentence-transformers", "text", "pip install -r envs/requirements-encode.txt"),
        ("timm", "image", "pip install timm torchvision"),
        ("open_clip_torch", "image", "pip install open_clip_torch torchvision"),
        ("open_clip_torch", "text", "pip install open_clip_torch torchvision"),
    ],
)
def test_an_encoder_whose_library_is_missing_names_the_command(monkeypatch, library, modality, command):
    def failing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    assert library in list(ENCODERS)
    monkeypatch.setattr(optional_libraries.importlib, "import_module", failing)
    with pytest.raises(UserError, match=f"run `{command}`"):
        open_encoder(settings("owner/model", library=library), modality, CPU)


def test_a_torchvision_of_another_pytorch_is_named(tiny, monkeypatch):
    transformers = pytest.importorskip("transformers")

    def failing(name):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return import_module(name)

    import_module = optional_libraries.importlib.import_module
    monkeypatch.setattr(transformers.utils, "is_torchvision_available", lambda: True)
    monkeypatch.setattr(optional_libraries.importlib, "import_module", failing)
    with pytest.raises(UserError, match=r"torchvision cannot be imported \(.*\): run `pip uninstall torchvision`"):
        open_encoder(settings(tiny("siglip")), "image", CPU)


def test_no_library_is_imported_before_an_encoder_is_opened():
    libraries_of_encoders = ("transformers", "sentence_transformers", "timm", "open_clip", "huggingface_hub")
    program = (
        "import sys; from frozenalign.encoders.registry import ENCODERS; print(*sorted(ENCODERS));"
        f"print(*(name for name in {libraries_of_encoders} if sys.modules.get(name)))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    names, found = printed.split("\n")[:2]
    assert not found
    assert set(names.split()) >= {
        "transformers",
        "sentence-transformers",
        "timm",
        "open_clip_torch",
        "efficientnet-lite0",
    }

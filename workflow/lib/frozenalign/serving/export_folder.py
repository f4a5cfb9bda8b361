"""The folder of an exported model: config.json, model.safetensors, and SHA256SUMS of what belongs to them."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frozenalign.configuration.result_files import read_result
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.models.model_file import rebuilt_model
from frozenalign.system.errors import UserError, one_line
from frozenalign.system.files import file_hash, read_text, write_bytes, write_json, write_text
from frozenalign.system.optional_libraries import imported

CONFIG, WEIGHTS, SUMS = "config.json", "model.safetensors", "SHA256SUMS"
FORMAT = 1
SUMS_BYTES = 1 << 20
INSTALL = "pip install safetensors"
EXPORT_AGAIN = "export it again, or get the whole folder again"
STATISTICS = re.compile(r"(?:image|text)_statistics\.(mean|scale)")
NEUTRAL = {"mean": torch.zeros, "scale": torch.ones}


def write_model(folder: Path, model: DualEncoder, facts: Mapping[str, Any], further: Mapping[str, Any]) -> None:
    """Write config.json and model.safetensors.

    further: what else config.json says. Statistics that change nothing, a mean of 0 and a scale of 1, are left out.
    """
    save = imported("safetensors.torch", INSTALL).save
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_bytes(folder / WEIGHTS, save({name: v for name, v in state.items() if not _changes_nothing(name, v)}))
    described = {"format": FORMAT, "model": model.settings, "input_dims": model.dims}
    write_json(folder / CONFIG, {**described, **further, "facts": dict(facts)})


def write_sums(folder: Path, names: Iterable[str]) -> None:
    """Write SHA256SUMS of files of a folder, as `sha256sum --check SHA256SUMS` reads it."""
    write_text(folder / SUMS, "".join(f"{file_hash(folder / name)}  {name}\n" for name in sorted(names)))


def read_export(folder: Path) -> tuple[DualEncoder, dict[str, Any]]:
    """Return the model of an exported folder, on the CPU and for use, with its facts."""
    sums = _sums(folder)
    for name in (CONFIG, WEIGHTS):
        if file_hash(folder / name) != sums.get(name):
            raise UserError(f"{folder / name} is not the file that {folder / SUMS} lists: {EXPORT_AGAIN}")
    config = read_result(folder / CONFIG)
    state = _read_weights(folder / WEIGHTS, config["input_dims"])
    return rebuilt_model(folder / WEIGHTS, config | {"state": state}, EXPORT_AGAIN), config["facts"]


def _sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 that a folder lists for each of its files."""
    path = folder / SUMS
    lines = read_text(path, SUMS_BYTES, "give the path of a folder that the export step wrote").splitlines()
    found = [re.fullmatch(r"([0-9a-f]{64})  (\S.*)", line) for line in lines]
    if not all(found):
        raise UserError(f"{path} has a line that is not a SHA-256 and a name: {EXPORT_AGAIN}")
    return {each[2]: each[1] for each in found}


def _read_weights(path: Path, dims: Mapping[str, int]) -> dict[str, Tensor]:
    """Return the tensors of a file by name, with the statistics that it leaves out."""
    library = imported("safetensors.torch", INSTALL)
    try:
        state = library.load_file(path)
    except Exception as error:
        # The parser can raise anything on a damaged file.
        raise UserError(f"{path} is not readable as safetensors ({one_line(str(error))}): {EXPORT_AGAIN}") from error
    neutral = {
        f"{modality}_statistics.{name}": fill(dims[modality])
        for modality in ("image", "text")
        for name, fill in NEUTRAL.items()
    }
    return neutral | state


def _changes_nothing(name: str, value: Tensor) -> bool:
    found = STATISTICS.fullmatch(name)
    return found is not None and torch.equal(value, NEUTRAL[found[1]](len(value)))

"""A head as modules of sentence-transformers: a folder that its `Router` reads, one route for each modality."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.serving.dense_layers import Dense, Layers, Normalize, applied, layers_of
from frozenalign.serving.export_folder import INSTALL
from frozenalign.serving.folding import is_neutral, tried_rows
from frozenalign.system.files import write_bytes, write_json
from frozenalign.system.optional_libraries import imported

logger = logging.getLogger(__name__)
FOLDER = "sentence_transformers"
LARGEST_DIFFERENCE = 1e-5
ROWS = 1000
# The modules of release 6.
MODULES = "sentence_transformers.base.modules"
KEYS = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}


def routes_of(model: DualEncoder, trained: DualEncoder) -> dict[str, Layers] | None:
    """Return the layers of each modality; None, and the reason in the log, for a head that they cannot express.

    model: with its standardisation folded in, where it could be. trained: the one before, to which they are held.
    """
    routes = {modality: layers_of(getattr(model, f"{modality}_tower")) for modality in ("text", "image")}
    if None in routes.values() or not _is_folded(model):
        head = model.settings["type"]
        logger.info("no modules of sentence-transformers: the head %s is not made of layers that it has", head)
        return None
    routes = {modality: [*layers, Normalize()] for modality, layers in routes.items()}
    difference = _difference(routes, trained)
    if not difference < LARGEST_DIFFERENCE:
        logger.info("no modules of sentence-transformers: they would differ from the model by %.1g", difference)
        return None
    return routes


@torch.no_grad()
def _difference(routes: dict[str, Layers], trained: DualEncoder) -> float:
    """Return the largest difference between the layers and the trained model."""
    texts, images = (tried_rows(each, ROWS) for each in (trained.text_statistics, trained.image_statistics))
    differences = (
        applied(routes["text"], texts) - trained.encode_texts(texts),
        applied(routes["image"], images) - trained.encode_images(images),
    )
    return max(each.abs().max().item() for each in differences)


def _is_folded(model: DualEncoder) -> bool:
    return all(is_neutral(each) for each in (model.image_statistics, model.text_statistics))


def write_modules(folder: Path, routes: dict[str, Layers]) -> list[str]:
    """Write the modules of each route below a folder, and return the names of all files."""
    types, structure, written = {}, {}, []
    for modality, layers in routes.items():
        structure[modality] = []
        for number, layer in enumerate(layers):
            kind = type(layer).__name__
            name = f"{modality}_{number}_{kind}"
            types[name] = f"{MODULES}.{kind.lower()}.{kind}"
            structure[modality].append(name)
            written += [f"{name}/{file}" for file in _write(folder / name, layer)]
    parameters = {"default_route": "text", "allow_empty_key": True, "route_mappings": {}}
    router = {"types": types, "structure": structure, "parameters": parameters}
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"{MODULES}.router.Router"}]
    described = {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"}
    documents = {"router_config.json": router, "modules.json": modules, "config_sentence_transformers.json": described}
    for name, content in documents.items():
        write_json(folder / name, content)
    return [*written, *documents]


def _write(folder: Path, layer: Dense | Normalize) -> list[str]:
    """Write one module, and return the names of its files."""
    config: dict[str, Any] = dict(KEYS)
    files = ["config.json"]
    if isinstance(layer, Dense):
        config |= {
            "in_features": layer.weight.shape[1],
            "out_features": layer.weight.shape[0],
            "bias": True,
            "activation_function": f"{layer.activation.__module__}.{layer.activation.__name__}",
        }
        tensors = {"linear.weight": layer.weight, "linear.bias": layer.bias}
        if layer.residual is not None:
            config["use_residual"] = True
            tensors["residual.weight"] = layer.residual
        write_bytes(folder / "model.safetensors", _safetensors(tensors))
        files.append("model.safetensors")
    write_json(folder / "config.json", config)
    return files


def _safetensors(tensors: dict[str, Tensor]) -> bytes:
    save = imported("safetensors.torch", INSTALL).save
    return save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})

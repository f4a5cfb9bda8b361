"""The hidden layers of a model of transformers, each a row for every token or patch."""

from typing import Any

from torch import Tensor

from frozenalign.encoders.pooling import POOLINGS
from frozenalign.encoders.settings import EncoderSettings
from frozenalign.system.errors import UserError


def refuse_unknown_layer(settings: EncoderSettings, pooling: str, model: Any) -> None:
    """Refuse `layer` beside a pooling that the model does itself, after its last layer, and one that it has not."""
    if settings.layer is None:
        return
    if pooling not in POOLINGS:
        raise UserError(
            f"encoder {settings.encoder}: layer: the pooling {pooling} is of the last layer alone: set `pooling: mean` "
            "or cls, or leave `layer` out"
        )
    layers = _layers(model)
    if layers is not None and settings.layer > layers:
        raise UserError(
            f"encoder {settings.encoder}: layer: found {settings.layer}; {settings.name} has the layers 0 to {layers}"
        )


def asked_for(settings: EncoderSettings) -> dict[str, bool]:
    """Return the argument with which a model returns the rows of all layers, where one is wanted."""
    return {} if settings.layer is None else {"output_hidden_states": True}


def hidden_rows(output: Any, settings: EncoderSettings) -> Tensor:
    """Return the rows (n, T, D) of the layer of the settings, by default the last one's, from a model's output."""
    if settings.layer is None:
        return output.last_hidden_state
    layers = output.hidden_states
    if not layers or settings.layer >= len(layers):
        raise UserError(
            f"encoder {settings.encoder}: layer: {settings.name} returns {len(layers or ())} layers: leave it out, or "
            "name one from 0"
        )
    return layers[settings.layer]


def _layers(model: Any) -> int | None:
    """Return the number of layers, where the configuration of a model of one tower says it."""
    return getattr(model.config, "num_hidden_layers", None)

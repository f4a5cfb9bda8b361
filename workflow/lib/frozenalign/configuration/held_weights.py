"""How many numbers a tower's weights take while it learns, estimated without PyTorch: jobs ask for memory by it."""

from collections.abc import Mapping
from typing import Any

from frozenalign.configuration.registrations import heads

# Weights, gradients, two running means, an average or momentum copy, those of the best epoch, a checkpoint of all.
COPIES_OF_WEIGHTS = 12
# Whitening matrices of the weights now, of the best epoch and of a checkpoint; their principal axes are in float64.
COPIES_OF_BUFFERS = 5
# Of a head that says nothing of its hidden layer, which is so many times as wide as the embeddings at most.
WIDEST = 4
# A transformer layer: four matrices of attention, and two to and from a layer four times as wide.
MATRICES_OF_A_LAYER = 12


def held_numbers(model: Mapping[str, Any], width: int) -> int:
    """Return the most numbers that a tower for embeddings of this width holds while it learns, all copies together.

    model: the `model` section of an experiment, with its defaults.
    """
    hidden = _hidden_width(model, width)
    layers = model.get("num_layers", 0) * (hidden // model.get("num_tokens", 1)) ** 2
    weights = width * model["output_dim"] + hidden * (2 * width + model["output_dim"]) + MATRICES_OF_A_LAYER * layers
    return COPIES_OF_WEIGHTS * weights + COPIES_OF_BUFFERS * width**2 * (model["whitening"] != "none")


def _hidden_width(model: Mapping[str, Any], width: int) -> int:
    """Return the width of the hidden layer: the section's, the head's own, or the most that it may be.

    `hidden_dim: null` stands for half the width of the embeddings.
    """
    stated = heads()[model["type"]].constants.get("hidden_dim", WIDEST * width)
    hidden = model.get("hidden_dim", stated)
    return max(1, width // 2) if hidden is None else hidden

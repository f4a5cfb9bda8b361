"""Parameter types of heads, losses and baselines: each name stands for a range of values.

The parameters of a registered class are its keyword-only arguments, annotated with these names; `registrations` turns
the annotations into the schema of the configuration file.
"""

from typing import Any

# Dimensions of a head's output that hold the penalty of `model.hub_prototypes`.
HUB_PENALTY_DIMS = 2
PositiveInt = int
PositiveFloat = float
NonNegativeFloat = float
Probability = float
Number = float
SCHEMAS: dict[str, dict[str, Any]] = {
    "PositiveInt": {"type": "integer", "minimum": 1},
    "PositiveFloat": {"type": "number", "exclusiveMinimum": 0},
    "NonNegativeFloat": {"type": "number", "minimum": 0},
    "Probability": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
    "Number": {"type": "number"},
    "bool": {"type": "boolean"},
    "None": {"type": "null"},
}

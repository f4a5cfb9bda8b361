"""A penalty for hubs that a head carries in its vectors: what is close to everything scores lower in any search."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from frozenalign.configuration.parameters import HUB_PENALTY_DIMS

# The number a beside the unit vector: a larger one distorts cosines less and leaves less of them.
CARRIER = 0.5


class PenalizedTower(nn.Module):
    """A tower whose outputs make the cosine of an image u and a text v that of u · v - c(u) - c(v), up to scale.

    c(u) = T log mean exp(P u / T) - o, how close u is to the prototypes P (M, D), unit vectors of the other modality at
    the start and learned; T and the mean o are fixed. Of a query's candidates each loses its own c, and the query's c
    changes no order: the inverted softmax of Smith et al. 2017, Offline Bilingual Word Vectors, Orthogonal
    Transformations and the Inverted Softmax, for both directions, within vectors that any index can hold. Images become
    (u, a, -c / a) and texts (u, -c / a, a).

    rate: how many times as fast as other weights the prototypes learn.
    """

    def __init__(
        self,
        tower: nn.Module,
        output_dim: int,
        modality: Literal["image", "text"],
        prototypes: int,
        temperature: float,
        rate: float = 1.0,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.modality = modality
        self.temperature = temperature
        # About unit vectors. Where the model of a file is rebuilt on the device "meta", any other initial values would
        # import a second's worth of modules.
        bound = math.sqrt(3 / (output_dim - HUB_PENALTY_DIMS))
        random = nn.init.uniform_(torch.empty(prototypes, output_dim - HUB_PENALTY_DIMS), -bound, bound)
        self.prototypes = nn.Parameter(random)
        self.prototypes.rate = rate
        self.register_buffer("offset", torch.zeros(()))

    def with_tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, input_dim) to the output (N, output_dim) and the tower's tokens."""
        output, tokens = self.tower.with_tokens(x)
        return self._extended(output), tokens

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, input_dim) to (N, output_dim)."""
        return self._extended(self.tower(x))

    def closeness(self, vectors: Tensor) -> Tensor:
        """Return c of unit vectors (N, D) before the offset is subtracted, (N, 1)."""
        logits = functional.linear(vectors, self.prototypes).float() / self.temperature
        return self.temperature * (logits.logsumexp(1, keepdim=True) - math.log(len(self.prototypes)))

    def _extended(self, output: Tensor) -> Tensor:
        vectors = functional.normalize(output.float(), dim=1)
        penalty = (self.offset - self.closeness(vectors)) / CARRIER
        carrier = torch.full_like(penalty, CARRIER)
        return torch.cat([vectors, *((carrier, penalty) if self.modality == "image" else (penalty, carrier))], dim=1)


def without_penalty(tower: nn.Module) -> nn.Module:
    """Return the tower within a penalty, or the tower itself."""
    return tower.tower if isinstance(tower, PenalizedTower) else tower

"""Several models as one, whose similarity is the mean of theirs."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from frozenalign.models.dual_encoder import DualEncoder, unit


class Ensemble(nn.Module):
    """Models side by side: the cosine similarity of their joint projections is the mean of the members'.

    Pair scorers of the members are not used: nothing is re-ranked.
    """

    scorer = None

    def __init__(self, members: Sequence[DualEncoder]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def encode_images(self, x: Tensor | np.ndarray) -> Tensor:
        """Map raw image embeddings (N, D_image), or one (D_image,), to unit vectors as wide as all members'."""
        return self._joint([member.encode_images(x) for member in self.members])

    def encode_texts(self, x: Tensor | np.ndarray) -> Tensor:
        """Map raw text embeddings (N, D_text), or one (D_text,), to unit vectors as wide as all members'."""
        return self._joint([member.encode_texts(x) for member in self.members])

    def without_hub_penalty(self, vectors: Tensor) -> Tensor:
        """Return joint vectors (N, D) without the dimensions of the members' penalties for hubs."""
        widths = [member.settings["output_dim"] for member in self.members]
        parts = zip(self.members, vectors.split(widths, dim=-1), strict=True)
        return self._joint([member.without_hub_penalty(unit(part)) for member, part in parts])

    def _joint(self, projections: list[Tensor]) -> Tensor:
        return torch.cat(projections, dim=-1) / len(projections) ** 0.5

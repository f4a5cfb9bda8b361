"""The pair scorer of the cross-modal head."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ProjectedTokens:
    """Attention inputs of one modality's tokens, each (N, tokens, width)."""

    queries: Tensor
    keys: Tensor
    values: Tensor

    def rows(self, which: Tensor) -> "ProjectedTokens":
        """Return the rows `which`; an index of any shape (…,) gives (…, tokens, width)."""
        # Of an index in brackets, the way back takes twice as long.
        parts = (part.index_select(0, which.flatten()) for part in (self.queries, self.keys, self.values))
        return ProjectedTokens(*(part.unflatten(0, which.shape) for part in parts))


class TokenProjection(nn.Module):
    """Maps tokens to queries, keys and values, once for each item, so that a pair costs only the attention itself."""

    def __init__(self, token_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(token_dim)
        self.to_parts = nn.Linear(token_dim, 3 * token_dim)

    def forward(self, tokens: Tensor) -> ProjectedTokens:
        """Map tokens (N, tokens, width) to attention inputs."""
        return ProjectedTokens(*self.to_parts(self.norm(tokens)).chunk(3, dim=-1))


def pooled_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return the mean over queries, (…, width), of scaled dot-product attention; all inputs are (…, tokens, width).

    The weights are averaged before they meet the values, which are then multiplied once, not once a query.
    """
    weights = (queries @ keys.mT).float() * queries.shape[-1] ** -0.5
    return (weights.softmax(-1).mean(-2, keepdim=True).to(values.dtype) @ values).squeeze(-2)


class CrossModalScorer(nn.Module):
    """Scores (image, text) pairs: image tokens attend to text tokens and back, the pooled results are compared.

    The score is the scaled dual similarity plus a correction that starts at zero: an untrained scorer keeps the order
    of the dual retrieval.
    """

    def __init__(self, token_dim: int) -> None:
        super().__init__()
        self.image_parts = TokenProjection(token_dim)
        self.text_parts = TokenProjection(token_dim)
        self.compare = nn.Sequential(
            nn.LayerNorm(4 * token_dim), nn.Linear(4 * token_dim, 2 * token_dim), nn.GELU(), nn.Linear(2 * token_dim, 1)
        )
        self.similarity_scale = nn.Parameter(torch.tensor(10.0))
        self.bias = nn.Parameter(torch.tensor(0.0))
        nn.init.zeros_(self.compare[-1].weight)
        nn.init.zeros_(self.compare[-1].bias)

    def forward(self, image: ProjectedTokens, text: ProjectedTokens, similarity: Tensor) -> Tensor:
        """Return the logits (…,) that pairs match, from tokens (…, tokens, width) and dual similarities (…,)."""
        to_image = pooled_attention(text.queries, image.keys, image.values)
        to_text = pooled_attention(image.queries, text.keys, text.values)
        own_image, own_text = image.values.mean(-2), text.values.mean(-2)
        compared = self.compare(torch.cat([to_image, to_text, own_image * own_text, to_image * to_text], dim=-1))
        return compared.squeeze(-1).float() + self.similarity_scale * similarity + self.bias

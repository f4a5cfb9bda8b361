"""Projection heads: the towers.

A tower maps standardised embeddings (N, input_dim) to (N, output_dim). Its parameters are keyword-only arguments
annotated with the types of `configuration.parameters`; configuration, tuning and documentation read them from here.
With a name, `register_head` may be given what is known before PyTorch is loaded: `hidden_dim`, the width of the hidden
layer of a head without such a parameter, and `divided`, a parameter that is a multiple of the product of others.
A tower that needs something of training, such as a momentum copy, is a `Head` as well.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from frozenalign.configuration.parameters import PositiveInt, Probability
from frozenalign.models.dropout import Dropout
from frozenalign.models.linear import Linear
from frozenalign.models.pair_scorer import CrossModalScorer
from frozenalign.models.registry import register_head


class Head:
    """What a head may need of training; a tower that needs nothing may be any module.

    learnable_temp: whether the temperature of the loss is learned. momentum: share of its old weights that a momentum
    copy keeps in a step, where the loss has none of its own; None takes the loss's default.
    """

    learnable_temp: bool = True
    momentum: float | None = None

    def pair_scorer(self) -> nn.Module | None:
        """Return an untrained scorer of pairs; a head with one also has `with_tokens` and `rerank_k`."""
        return None


@register_head("linear", hidden_dim=0)
class LinearTower(Linear):
    """One linear map.

    init: start from random weights, or from the regularised CCA of the training pairs.
    """

    def __init__(self, input_dim: int, output_dim: int, *, init: Literal["random", "cca"] = "random") -> None:
        super().__init__(input_dim, output_dim)
        self.init = init


@register_head("mlp")
class MLPTower(nn.Sequential):
    """Linear, layer norm, GELU, dropout, linear.

    hidden_dim: width of the hidden layer.
    dropout: share of hidden values dropped in training.
    """

    def __init__(
        self, input_dim: int, output_dim: int, *, hidden_dim: PositiveInt = 1024, dropout: Probability = 0.1
    ) -> None:
        super().__init__(
            Linear(input_dim, hidden_dim),
            nn.LayerNorm(hidden_dim),
            nn.GELU(),
            Dropout(dropout),
            Linear(hidden_dim, output_dim),
        )


def _transformer_layer(width: int, num_heads: int, dropout: float) -> nn.TransformerEncoderLayer:
    """Return a pre-norm layer of tokens (N, tokens, width)."""
    layer = nn.TransformerEncoderLayer(
        width, num_heads, 4 * width, dropout, activation=functional.gelu, batch_first=True, norm_first=True
    )
    layer.dropout, layer.dropout1, layer.dropout2 = (Dropout(dropout) for _ in range(3))
    return layer


@register_head("attention", divided=("hidden_dim", "num_tokens", "num_heads"))
class AttentionTower(nn.Module):
    """Tokens made from one embedding by a linear map attend to each other; their mean is mapped to the output.

    hidden_dim: width of all tokens together.
    num_tokens: tokens made from an embedding; num_tokens · num_heads divides hidden_dim.
    num_heads: attention heads.
    num_layers: pre-norm transformer layers.
    dropout: share of values dropped in training.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        hidden_dim: PositiveInt = 1024,
        num_tokens: PositiveInt = 8,
        num_heads: PositiveInt = 8,
        num_layers: PositiveInt = 2,
        dropout: Probability = 0.1,
    ) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.token_dim = hidden_dim // num_tokens
        self.to_tokens = Linear(input_dim, num_tokens * self.token_dim)
        self.positions = nn.Parameter(0.02 * torch.randn(num_tokens, self.token_dim))
        self.layers = nn.ModuleList(_transformer_layer(self.token_dim, num_heads, dropout) for _ in range(num_layers))
        self.to_output = Linear(self.token_dim, output_dim)

    def with_tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, input_dim) to the output (N, output_dim) and its tokens (N, num_tokens, token_dim)."""
        tokens = self.to_tokens(x).unflatten(1, (self.num_tokens, self.token_dim)) + self.positions
        for layer in self.layers:
            tokens = layer(tokens)
        return self.to_output(tokens.mean(1)), tokens

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, input_dim) to (N, output_dim)."""
        return self.with_tokens(x)[0]


@register_head("cross_modal", divided=("hidden_dim", "num_tokens", "num_heads"))
class CrossModalTower(Head, AttentionTower):
    """An `attention` tower whose tokens also feed a pair scorer that re-ranks the best candidates.

    hidden_dim: width of all tokens together.
    num_tokens: tokens made from an embedding; num_tokens · num_heads divides hidden_dim.
    num_heads: attention heads.
    num_layers: pre-norm transformer layers.
    dropout: share of values dropped in training.
    rerank_k: candidates of each query that the scorer puts in a new order.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        hidden_dim: PositiveInt = 1024,
        num_tokens: PositiveInt = 8,
        num_heads: PositiveInt = 8,
        num_layers: PositiveInt = 2,
        dropout: Probability = 0.1,
        rerank_k: PositiveInt = 64,
    ) -> None:
        sizes = {"hidden_dim": hidden_dim, "num_tokens": num_tokens, "num_heads": num_heads, "num_layers": num_layers}
        super().__init__(input_dim, output_dim, **sizes, dropout=dropout)
        self.rerank_k = rerank_k

    def pair_scorer(self) -> CrossModalScorer:
        """Return an untrained scorer for the tokens of a pair of such towers."""
        return CrossModalScorer(self.token_dim)


@register_head("siglip")
class SigLIPTower(nn.Module):
    """Pre-norm residual MLP of four times the input width with tanh GELU, then linear.

    dropout: share of hidden values dropped in training.
    """

    def __init__(self, input_dim: int, output_dim: int, *, dropout: Probability = 0.0) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.LayerNorm(input_dim),
            Linear(input_dim, 4 * input_dim),
            nn.GELU(approximate="tanh"),
            Dropout(dropout),
            Linear(4 * input_dim, input_dim),
        )
        self.to_output = Linear(input_dim, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, input_dim) to (N, output_dim)."""
        return self.to_output(x + self.residual(x))


@register_head("clip")
class CLIPTower(Head, nn.Sequential):
    """Linear, GELU, dropout, linear.

    hidden_dim: width of the hidden layer; null takes half the input width.
    dropout: share of hidden values dropped in training.
    learnable_temp: learn the temperature of the loss; false keeps it where it starts.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        hidden_dim: PositiveInt | None = None,
        dropout: Probability = 0.1,
        learnable_temp: bool = True,
    ) -> None:
        width = hidden_dim or max(1, input_dim // 2)
        super().__init__(Linear(input_dim, width), nn.GELU(), Dropout(dropout), Linear(width, output_dim))
        self.learnable_temp = learnable_temp


@register_head("align")
class ALIGNTower(nn.Sequential):
    """Linear, batch norm, ReLU, dropout, linear.

    hidden_dim: width of the hidden layer.
    use_bn: normalise the hidden layer over the batch.
    dropout: share of hidden values dropped in training.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        hidden_dim: PositiveInt = 2048,
        use_bn: bool = True,
        dropout: Probability = 0.1,
    ) -> None:
        super().__init__(
            Linear(input_dim, hidden_dim),
            nn.BatchNorm1d(hidden_dim) if use_bn else nn.Identity(),
            nn.ReLU(),
            Dropout(dropout),
            Linear(hidden_dim, output_dim),
        )


@register_head("blip")
class BLIPTower(Head, MLPTower):
    """An `mlp` tower that is trained with a momentum copy and feature queues.

    hidden_dim: width of the hidden layer.
    dropout: share of hidden values dropped in training.
    momentum: share of its old weights that the momentum copy keeps in a step.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        hidden_dim: PositiveInt = 1024,
        dropout: Probability = 0.1,
        momentum: Probability = 0.995,
    ) -> None:
        super().__init__(input_dim, output_dim, hidden_dim=hidden_dim, dropout=dropout)
        self.momentum = momentum

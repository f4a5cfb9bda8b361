"""The loss that trains a pair scorer on hard negatives of the batch."""

import torch
from torch import Tensor
from torch.nn import functional

from frozenalign.models.pair_scorer import CrossModalScorer


def matching_loss(
    scorer: CrossModalScorer,
    image_tokens: Tensor,
    text_tokens: Tensor,
    similarity: Tensor,
    image_index: Tensor,
    temperature: float = 0.07,
) -> Tensor:
    """Return the binary cross-entropy of true pairs against one hard negative text and image each.

    image_tokens, text_tokens: (B, tokens, width). similarity: (B, B). image_index: (B,) names each pair's image.
    Negatives are drawn by the softmax of the similarities, never of the same image (ALBEF, Li et al. 2021, eq. 3).
    """
    with torch.no_grad():
        logits = similarity.float() / temperature
        same = image_index[:, None] == image_index[None, :]
        weights = torch.softmax(logits.masked_fill(same, -torch.inf), dim=1).nan_to_num_(0.0)
        weights_back = torch.softmax(logits.T.masked_fill(same, -torch.inf), dim=1).nan_to_num_(0.0)
        usable = torch.nonzero(weights.sum(1) > 0).flatten()
        if not len(usable):
            return similarity.sum() * 0.0
        hard_text = torch.multinomial(weights[usable], 1).flatten()
        hard_image = torch.multinomial(weights_back[usable], 1).flatten()
    image, text = scorer.image_parts(image_tokens), scorer.text_parts(text_tokens)
    image_rows = torch.cat([usable, usable, hard_image])
    text_rows = torch.cat([usable, hard_text, usable])
    scores = scorer(image.rows(image_rows), text.rows(text_rows), similarity.detach()[image_rows, text_rows])
    target = torch.zeros_like(scores)
    target[: len(usable)] = 1.0
    return functional.binary_cross_entropy_with_logits(scores, target)

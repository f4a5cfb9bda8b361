"""The loss that trains a pair scorer on hard negatives of the batch."""

import torch
from torch import Tensor
from torch.nn import functional

from frozenalign.models.pair_scorer import CrossModalScorer
from frozenalign.system.processes import ALONE, Processes


def matching_loss(
    scorer: CrossModalScorer,
    image_tokens: Tensor,
    text_tokens: Tensor,
    similarity: Tensor,
    image_index: Tensor,
    temperature: float = 0.07,
    processes: Processes = ALONE,
) -> Tensor:
    """Return the binary cross-entropy of each true pair, and of its image and text with one hard negative each.

    image_tokens, text_tokens: (B, tokens, width). similarity: (B, B). image_index: (B,) names each pair's image.
    processes: each scores a share of the pairs and returns its part of the loss.
    Negatives are drawn by the softmax of the similarities, never of the same image (ALBEF, Li et al. 2021, eq. 3).
    """
    with torch.no_grad():
        logits = similarity.float() / temperature
        same = image_index[:, None] == image_index[None, :]
        # A row without any other image becomes NaN, then zero.
        to_text, to_image = (
            torch.softmax(scores.masked_fill(same, -torch.inf), dim=1).nan_to_num_(0.0) for scores in (logits, logits.T)
        )
        usable = torch.nonzero(to_text.sum(1) > 0).flatten()
        if not len(usable):
            return similarity.sum() * 0.0
        hard_text, hard_image = (torch.multinomial(weights[usable], 1).flatten() for weights in (to_text, to_image))
        count = 3 * len(usable)
        usable, hard_text, hard_image = map(processes.own, (usable, hard_text, hard_image))
    image, text = scorer.image_parts(image_tokens), scorer.text_parts(text_tokens)
    image_rows = torch.cat([usable, usable, hard_image])
    text_rows = torch.cat([usable, hard_text, usable])
    scores = scorer(image.rows(image_rows), text.rows(text_rows), similarity.detach()[image_rows, text_rows])
    matches = (torch.arange(len(scores), device=scores.device) < len(usable)).float()
    if not len(scores):
        return scores.sum()  # A process without pairs: zero, in the scorer's graph.
    return functional.binary_cross_entropy_with_logits(scores, matches) * (len(scores) / count)

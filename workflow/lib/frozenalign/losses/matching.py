"""The loss that trains a pair scorer on hard negatives of the batch."""

import torch
from torch import Tensor
from torch.nn import functional

from frozenalign.models.pair_scorer import CrossModalScorer
from frozenalign.system.processes import ALONE, Processes

# At which hard negatives are drawn.
TEMPERATURE = 0.07


def matching_loss(
    scorer: CrossModalScorer,
    image_tokens: Tensor,
    text_tokens: Tensor,
    similarity: Tensor,
    image_index: Tensor,
    processes: Processes = ALONE,
) -> Tensor:
    """Return the binary cross-entropy of each true pair, and of its image and text with one hard negative each.

    image_tokens, text_tokens: (B, tokens, width). similarity: (B, B). image_index: (B,) names each pair's image.
    processes: each scores a share of the pairs and returns its part of the loss.
    Negatives are drawn by the softmax of the similarities, never of the same image (ALBEF, Li et al. 2021, eq. 3).
    """
    with torch.no_grad():
        logits = similarity.float() / TEMPERATURE
        same = image_index[:, None] == image_index[None, :]
        # A row without any other image becomes NaN, then zero; it draws anything, and is left out of the loss.
        to_text, to_image = (
            torch.softmax(scores.masked_fill(same, -torch.inf), dim=1).nan_to_num_(0.0) for scores in (logits, logits.T)
        )
        usable = to_text.sum(1) > 0
        anything = ~usable[:, None]
        hard_text, hard_image = (torch.multinomial(weights + anything, 1).flatten() for weights in (to_text, to_image))
        # How many are usable is not asked here: the CPU would wait for a GPU.
        count = 3 * usable.sum().clamp(min=1)
        pairs = torch.arange(len(usable), device=usable.device)
        usable, pairs, hard_text, hard_image = map(processes.own, (usable, pairs, hard_text, hard_image))
    image, text = scorer.image_parts(image_tokens), scorer.text_parts(text_tokens)
    image_rows = torch.cat([pairs, pairs, hard_image])
    text_rows = torch.cat([pairs, hard_text, pairs])
    scores = scorer(image.rows(image_rows), text.rows(text_rows), similarity.detach()[image_rows, text_rows])
    matches = (torch.arange(len(scores), device=scores.device) < len(pairs)).float()
    if not len(scores):
        return scores.sum()  # A process without pairs: zero, in the scorer's graph.
    weights = usable.float().repeat(3)
    return functional.binary_cross_entropy_with_logits(scores, matches, weights, reduction="sum") / count

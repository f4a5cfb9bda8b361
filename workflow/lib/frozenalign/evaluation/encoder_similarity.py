"""How alike two encoders are on the pairs of a split, summed while its rows are read for something else."""

import logging

import torch
from torch import Tensor

from frozenalign.data.moments import moment_bytes
from frozenalign.data.pairs import PairFiles
from frozenalign.evaluation.image_batches import ImageBatch
from frozenalign.system.memory_left import memory_left
from frozenalign.system.products import blocks, product

logger = logging.getLogger(__name__)
PANEL_ROWS = 1024


class EncoderSimilarity:
    """Sums over so many pairs, every pair counted once, until their alignment is known.

    An image is multiplied once for all its texts in a batch: by their number, and by their sum. Rows are taken about a
    point near their mean, which limits cancellation; products are float32, of one batch, and sums float64.

    alignment: linear centred kernel alignment, 0 to 1, |C_xy|² / (|C_xx| |C_yy|) of Frobenius norms; None before the
    last pair, or if one of the encoders never varies. Few pairs compared to the widths raise it. Kornblith et al. 2019,
    Similarity of Neural Network Representations Revisited.
    """

    alignment: float | None = None

    def __init__(self, image_dim: int, text_dim: int, pairs: int, device: torch.device) -> None:
        # MPS has no float64.
        self.device = torch.device("cpu") if device.type == "mps" else device
        self.pairs, self.pairs_left = pairs, pairs
        self.origins: tuple[Tensor, Tensor] | None = None
        self.image_total, self.text_total, self.image, self.text, self.cross = (
            torch.zeros(shape, dtype=torch.float64, device=self.device)
            for shape in (image_dim, text_dim, (image_dim, image_dim), (text_dim, text_dim), (image_dim, text_dim))
        )

    @classmethod
    def where_it_fits(cls, files: PairFiles, device: torch.device, further_bytes: int) -> "EncoderSimilarity | None":
        """Return sums for the encoders of these files, None with a warning if memory does not hold them as well.

        further_bytes: of the CPU's memory, for what else is to be held at the same time.
        """
        widths = files.images.width, files.texts.width
        if moment_bytes(*widths) + further_bytes <= memory_left():
            return cls(*widths, len(files.split.text_rows), device)
        logger.warning("no CKA of the encoders: their second moments do not fit into memory")
        return None

    def add(self, batch: ImageBatch) -> None:
        """Add the pairs of a batch; with the last one, memory is given back."""
        images, texts, owner = (
            rows.to(self.device) for rows in (batch.image_rows.float(), batch.text_rows.float(), batch.owner)
        )
        if self.origins is None:
            self.origins = _origin(images), _origin(texts)
        images, texts = images - self.origins[0], texts - self.origins[1]
        counts = torch.bincount(owner, minlength=len(images)).float()
        of_images = texts.new_zeros(len(images), texts.shape[1]).index_add_(0, owner, texts)
        self.image_total += counts @ images
        self.text_total += texts.sum(0)
        _add_upper(self.image, images, images * counts[:, None])
        _add_upper(self.text, texts, texts)
        self.cross += product(images.T.contiguous(), of_images)
        self.pairs_left -= len(texts)
        if not self.pairs_left:
            self.alignment = self._value()
            del self.image, self.text, self.cross

    def _value(self) -> float | None:
        image, text = self.image_total / self.pairs, self.text_total / self.pairs
        for sums, left, right in ((self.image, image, image), (self.text, text, text), (self.cross, image, text)):
            sums.div_(self.pairs).addr_(left, right, alpha=-1)
        scale = _norm_by_upper(self.image) * _norm_by_upper(self.text)
        return float(self.cross.square().sum() / scale) if scale > 0 else None


def _origin(rows: Tensor) -> Tensor:
    """Return the mean (D,) of rows (N, D), and of a dimension of equal numbers the number itself."""
    return torch.where((rows == rows[0]).all(0), rows[0], rows.mean(0))


def _add_upper(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add leftᵀ right, a symmetric (D, D) of rows (N, D), to the panels of `total` from the diagonal rightwards."""
    for panel in blocks(len(total), PANEL_ROWS):
        # oneDNN multiplies a strided part of a matrix by its slowest path.
        total[panel, panel.start :] += product(left[:, panel].T.contiguous(), right[:, panel.start :].contiguous())


def _norm_by_upper(matrix: Tensor) -> Tensor:
    """Return the Frobenius norm of a symmetric matrix (D, D) of which only the upper triangle holds."""
    squares = matrix.new_zeros(())
    for panel in blocks(len(matrix), PANEL_ROWS):
        own = matrix[panel, panel].triu()
        beyond = matrix[panel, panel.stop :]
        squares += 2 * own.square().sum() - own.diagonal().square().sum() + 2 * beyond.square().sum()
    return squares.sqrt()

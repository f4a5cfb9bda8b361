"""How alike two encoders are on the pairs of a split, summed while its rows are read for something else."""

import contextlib
import logging
from pathlib import Path

import torch

from frozenalign.data.moments import Moments, PairSums, moment_bytes
from frozenalign.data.pairs import PairFiles
from frozenalign.evaluation.image_batches import ImageBatch
from frozenalign.system.errors import UserError
from frozenalign.system.files import read_json, write_json
from frozenalign.system.memory_left import memory_left

logger = logging.getLogger(__name__)
KNOWN_CKA = "known_cka.json"


class KnownCKA:
    """The CKA of the encoders by pairs, in a file: all models of a run are evaluated on the same pairs.

    What cannot be read or written there is computed again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, pairs: str) -> float | None:
        """Return the CKA of the encoders on the pairs that a hash stands for, None if it is not known."""
        found = self._all().get(pairs)
        return found if isinstance(found, float) and 0 <= found <= 1 + 1e-6 else None

    def add(self, pairs: str, cka: float) -> None:
        """Remember the CKA of the encoders on these pairs."""
        with contextlib.suppress(UserError, OSError):
            write_json(self.path, self._all() | {pairs: cka})

    def _all(self) -> dict:
        with contextlib.suppress(UserError, OSError):
            if isinstance(content := read_json(self.path), dict):
                return content
        return {}


class EncoderSimilarity:
    """Sums over so many pairs, every pair counted once, until the CKA of their encoders is known.

    cka: what `linear_cka` returns, None before the last pair.
    """

    cka: float | None = None

    def __init__(self, pairs: int, device: torch.device) -> None:
        # MPS has no float64.
        self.device = torch.device("cpu") if device.type == "mps" else device
        self.pairs_left = pairs
        self.sums: PairSums | None = None

    @classmethod
    def where_it_fits(cls, files: PairFiles, device: torch.device, further_bytes: int) -> "EncoderSimilarity | None":
        """Return sums for the encoders of these files, None with a warning if memory does not hold them as well.

        further_bytes: of the CPU's memory, for what else is to be held at the same time.
        """
        if moment_bytes(files.images.width, files.texts.width) + further_bytes <= memory_left():
            return cls(len(files.split.text_rows), device)
        logger.warning("no CKA of the encoders: their second moments do not fit into memory")
        return None

    def add(self, batch: ImageBatch) -> None:
        """Add the pairs of a batch; with the last one, memory is given back."""
        images, texts, owner = (
            rows.to(self.device) for rows in (batch.image_rows.float(), batch.text_rows.float(), batch.owner)
        )
        self.sums = self.sums or PairSums(images, texts)
        self.sums.add(images, texts, owner)
        self.pairs_left -= len(texts)
        if not self.pairs_left:
            self.cka, self.sums = linear_cka(self.sums.moments()), None


def linear_cka(moments: Moments) -> float | None:
    """Return the linear centred kernel alignment of the two encoders, 0 to 1, None if one of them never varies.

    It is |C_xy|² / (|C_xx| |C_yy|) of Frobenius norms; few pairs compared to the widths raise it. Kornblith et al.
    2019, Similarity of Neural Network Representations Revisited.
    """
    scale = moments.image_covariance.norm() * moments.text_covariance.norm()
    return float(moments.cross_covariance.square().sum() / scale) if scale > 0 else None

"""The registry of the kinds of evaluation sets.

A kind is a function of (asked, model, device) that returns what it measures. It is called for every model of a run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frozenalign.configuration.registrations import evaluation_sets
from frozenalign.configuration.registry import Registry
from frozenalign.data.benchmarks.same_encoder import encoder_doubts
from frozenalign.data.pairs import PairFiles
from frozenalign.data.rows import Rows
from frozenalign.data.split_findings import seen_images
from frozenalign.evaluation.protocol import Protocol
from frozenalign.system.errors import UserError

KINDS = Registry("kind of evaluation set", evaluation_sets)
register_evaluation_set = KINDS.register


@dataclass(frozen=True)
class AskedSet:
    """An evaluation set as the configuration names it, and the protocol of the run that evaluates on it.

    folder: of its rows; without one they are those of the protocol's split. positives: a registered source or a file.
    encoding: what encoded the data of the run, None if that is unknown. train: the pairs that heads are trained on.
    """

    name: str
    kind: str
    folder: Path | None
    positives: str | None
    protocol: Protocol
    encoding: dict[str, Any] | None
    train: PairFiles

    def doubts(self, images: Rows, texts: Rows, hashes: dict[str, str], pictures: np.ndarray) -> list[str]:
        """Return doubts about rows of the set; those of another encoder or width are a UserError.

        pictures: (N,) ascending rows of the file of images, one for each image.
        """
        found = encoder_doubts(self.folder, hashes, self.encoding)
        for rows, trained in ((images, self.train.images), (texts, self.train.texts)):
            if rows.width != trained.width:
                raise UserError(
                    f"{rows.where} has {rows.width} dimensions, the data of the run have {trained.width}: encode the "
                    "set with the encoders of the run"
                )
        return [*found, *seen_images(images, pictures, self.train)]

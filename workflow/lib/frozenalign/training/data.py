"""The pairs of a training."""

from dataclasses import dataclass

import torch

from frozenalign.data.pairs import PairFiles, ResidentPairs, Statistics, load_pairs, row_statistics


@dataclass(frozen=True)
class TrainingData:
    """Standardised pairs for training and validation, with the statistics that standardised them."""

    train: ResidentPairs
    val: ResidentPairs
    image: Statistics
    text: Statistics

    def to(self, device: torch.device) -> "TrainingData":
        """Return the same data on a device."""
        return TrainingData(self.train.to(device), self.val.to(device), self.image, self.text)


def load_training_data(train: PairFiles, val: PairFiles, compute: torch.dtype) -> TrainingData:
    """Read the training and validation pairs, standardised by the training rows, for steps in `compute`.

    Rows are held in 16 bits: standardised values need little range, so that float16 keeps 11 bits of each.
    """
    image = row_statistics(train.images, train.split.image_rows)
    text = row_statistics(train.texts, train.split.text_rows)
    held = torch.float16 if compute == torch.float32 else compute
    train_pairs, val_pairs = (load_pairs(files, image, text, held, compute) for files in (train, val))
    return TrainingData(train_pairs, val_pairs, image, text)

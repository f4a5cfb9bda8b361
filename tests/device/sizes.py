"""How much the checks compute: what a GPU is measured with, and what shows on any machine that they run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Sizes of the checks; `small` says nothing about speed.

    batches: batch sizes whose steps are timed, each with the number of batches of an epoch. compared: the batch size
    that is timed against a plain loop, too. images: of the evaluation, with five captions each. trainings: how many of
    the heads and losses with a state of their own are resumed and watched.
    """

    small: bool
    batches: dict[int, int]
    compared: int
    out_of_memory_batch: int
    images: int
    trials: int
    study_pairs: int
    study_batch: int
    jobs: int
    trainings: int


FULL = Sizes(
    small=False,
    batches={512: 64, 4096: 32, 32768: 4},
    compared=4096,
    out_of_memory_batch=32768,
    images=5_000,
    trials=100,
    study_pairs=100_000,
    study_batch=4096,
    jobs=4,
    trainings=5,
)
SMALL = Sizes(
    small=True,
    batches={32: 2, 64: 2},
    compared=64,
    out_of_memory_batch=64,
    images=60,
    trials=2,
    study_pairs=300,
    study_batch=64,
    jobs=1,
    trainings=2,
)

"""The rows among which a query's nearest are looked for, exactly."""

from dataclasses import dataclass

from torch import Tensor

from frozenalign.evaluation.ranks import top_candidates


@dataclass(frozen=True)
class Found:
    """A candidate that was found: its row, its score, and its similarity, the score without any correction."""

    row: int
    score: float
    similarity: float


@dataclass(frozen=True)
class Candidates:
    """Unit vectors (N, D), each followed by minus its penalty, (N, D + 1)."""

    rows: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> "Candidates":
        """Return candidates of vectors (N, D), none with a penalty."""
        return cls(_extended(vectors, 0.0))

    def lower(self, penalties: Tensor) -> None:
        """Lower the scores of all candidates by their penalties (N,), in place: a copy would take as much memory."""
        self.rows[:, -1] = -penalties

    @property
    def vectors(self) -> Tensor:
        """Return the unit vectors (N, D)."""
        return self.rows[:, :-1]

    def nearest(self, query: Tensor, count: int) -> list[Found]:
        """Return the `count` candidates with the highest scores for a unit vector (D,), best first.

        The score is the inner product with the query, less the penalty of the candidate.
        """
        scores, rows = top_candidates(_extended(query[None], 1.0), self.rows, count)
        return self._found(rows[0], scores[0])

    def best_of(self, rows: Tensor, query: Tensor, count: int) -> list[Found]:
        """Return the `count` with the highest scores among some candidates, given their rows (k,), best first."""
        scores, order = (self.rows[rows] @ _extended(query[None], 1.0)[0]).topk(min(count, len(rows)))
        return self._found(rows[order], scores)

    def _found(self, rows: Tensor, scores: Tensor) -> list[Found]:
        similarities = scores - self.rows[rows, -1]
        listed = zip(rows.tolist(), scores.tolist(), similarities.tolist(), strict=True)
        return [Found(*each) for each in listed]


def _extended(rows: Tensor, value: Tensor | float) -> Tensor:
    """Return rows (N, D) with the value, one for all or (N,), as one more dimension, (N, D + 1)."""
    extended = rows.new_empty(len(rows), rows.shape[1] + 1)
    extended[:, :-1], extended[:, -1] = rows, value
    return extended

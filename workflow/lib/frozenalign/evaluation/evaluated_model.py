"""The model that an evaluation is about, one or an ensemble; apart, since an evaluation of one needs no ensembles."""

from collections.abc import Sequence
from pathlib import Path

from frozenalign.evaluation.members import Member, load_members
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.models.ensemble import Ensemble


def evaluated_model(alone: Path | None, together: Sequence[Path] | None) -> tuple[DualEncoder, list[Member]]:
    """Return the model of the file `alone`, or the ensemble of the files `together`, and its members."""
    models, members = load_members(together or [alone])
    return Ensemble(models).eval() if together else models[0], members

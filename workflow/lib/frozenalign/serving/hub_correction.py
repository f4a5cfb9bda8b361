"""Whether candidates that are near to all queries score lower: where the evaluation of the head says that it helps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from frozenalign.configuration.arguments import HUBNESS_WISHES
from frozenalign.evaluation.hubness import Method, method_of
from frozenalign.evaluation.metrics import CORRECTED
from frozenalign.serving.galleries import CAPTIONS, IMAGES
from frozenalign.system.errors import UserError

AUTO, ON, OFF = HUBNESS_WISHES
# What is found, and the direction in which metrics.json measures it.
DIRECTIONS = {IMAGES: "t2i", CAPTIONS: "i2t"}


@dataclass(frozen=True)
class HubCorrection:
    """How candidates of a kind are corrected, by no method if they are not, and why, in one sentence."""

    method: Method | None
    why: str

    def described(self) -> dict[str, Any]:
        """Return it in plain values."""
        named = {"method": self.method.func.__name__, **self.method.keywords} if self.method else {"method": None}
        return {"used": self.method is not None, **named, "why": self.why}


def chosen_correction(metrics: Mapping[str, Any] | None, kind: str, wish: str) -> HubCorrection:
    """Return how a search for images or captions is corrected.

    metrics: those of the head. wish: on, off, or auto, which follows them: corrected where the sum of R@1, R@5 and R@10
    of that direction is higher with the correction on the validation split.
    """
    if wish == OFF:
        return HubCorrection(None, "it was asked to leave hubs as they are")
    if not metrics:
        if wish == ON:
            raise UserError(
                "hubness cannot be corrected: the head has no evaluation, which chooses the method: run the evaluation "
                "step, or leave out --hubness"
            )
        return HubCorrection(None, "the head has no evaluation that says whether it helps")
    correction = metrics[CORRECTED]["correction"]
    method, validation = method_of(correction), correction.get("validation")
    if method is None:
        raise UserError("the evaluation of the head names an unknown correction of hubness: run the evaluation again")
    if validation is None:
        unknown = "the evaluation of the head is of an earlier version: validation does not say whether that helps"
        return HubCorrection(method if wish == ON else None, unknown)
    plain, corrected = (validation[which][DIRECTIONS[kind]] for which in ("plain", "corrected"))
    sums = f"{corrected:.1f} with the correction, {plain:.1f} without"
    measured = f"R@1 + R@5 + R@10 of {kind} on the validation split are {sums}"
    if wish == ON:
        return HubCorrection(method, f"it was asked for; {measured}")
    return HubCorrection(method if corrected > plain else None, measured)

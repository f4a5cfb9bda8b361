"""Whether candidates that are near to all queries score lower: where the evaluation of the head says that it helps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from frozenalign.configuration.arguments import HUBNESS_WISHES
from frozenalign.evaluation.hubness import Method, method_of
from frozenalign.evaluation.metrics import RECALLS
from frozenalign.serving.galleries import CAPTIONS, IMAGES
from frozenalign.system.errors import UserError

AUTO, ON, OFF = HUBNESS_WISHES
# What is found, and the direction in which metrics.json measures it.
DIRECTIONS = {IMAGES: "t2i", CAPTIONS: "i2t"}
CORRECTED = "hubness_corrected"


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
    of that direction is higher with the correction.
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
    method = method_of(metrics[CORRECTED]["correction"])
    if method is None:
        raise UserError("the evaluation of the head names an unknown correction of hubness: run the evaluation again")
    plain, corrected = (_recalls(found, DIRECTIONS[kind]) for found in (metrics, metrics[CORRECTED]))
    measured = (
        f"R@1 + R@5 + R@10 of {kind} on the {metrics['protocol']['split']} split are {corrected:.1f} with the "
        f"correction, {plain:.1f} without"
    )
    if wish == ON:
        return HubCorrection(method, f"it was asked for; {measured}")
    return HubCorrection(method if corrected > plain else None, measured)


def _recalls(found: Mapping[str, Any], direction: str) -> float:
    return sum(found["full"][direction][name] for name in RECALLS)

"""Hubs are corrected in the direction in which the evaluation says that it helps, or as the user asks."""

import copy

import pytest

from frozenalign.evaluation.hubness import CANDIDATES, HubnessCorrection, method_of
from frozenalign.serving.galleries import CAPTIONS, IMAGES
from frozenalign.serving.hub_correction import chosen_correction
from frozenalign.system.errors import UserError

# Images are found better with the correction, captions are not.
VALIDATION = {"plain": {"t2i": 120.0, "i2t": 180.0}, "corrected": {"t2i": 123.0, "i2t": 180.0}}
METRICS = {"hubness_corrected": {"correction": {"type": "csls", "k": 10, "validation": VALIDATION}}}


def test_validation_decides_for_each_direction():
    images, captions = (chosen_correction(METRICS, kind, "auto") for kind in (IMAGES, CAPTIONS))
    assert images.described() == {
        "used": True,
        "method": "csls",
        "k": 10,
        "why": "R@1 + R@5 + R@10 of images on the validation split are 123.0 with the correction, 120.0 without",
    }
    assert captions.method is None
    assert captions.why.endswith("of captions on the validation split are 180.0 with the correction, 180.0 without")


def test_the_user_decides_otherwise():
    assert chosen_correction(METRICS, IMAGES, "off").method is None
    assert chosen_correction(METRICS, CAPTIONS, "on").described()["method"] == "csls"


def test_without_an_evaluation_nothing_is_corrected():
    assert chosen_correction(None, IMAGES, "auto").described() == {
        "used": False,
        "method": None,
        "why": "the head has no evaluation that says whether it helps",
    }
    with pytest.raises(UserError, match="no evaluation"):
        chosen_correction(None, IMAGES, "on")


def test_a_method_that_this_version_does_not_know_is_refused():
    metrics = copy.deepcopy(METRICS)
    metrics["hubness_corrected"]["correction"]["type"] = "other"
    with pytest.raises(UserError, match="unknown correction"):
        chosen_correction(metrics, IMAGES, "auto")


def test_an_evaluation_that_does_not_say_what_validation_says_corrects_only_on_request():
    earlier = {"hubness_corrected": {"correction": {"type": "csls", "k": 10, "validation_RSUM": 303.0}}}
    found = chosen_correction(earlier, IMAGES, "auto")
    assert found.method is None
    assert "of an earlier version" in found.why
    assert chosen_correction(earlier, IMAGES, "on").described()["method"] == "csls"


@pytest.mark.parametrize("method", CANDIDATES)
def test_a_recorded_method_is_found_again(method):
    described = HubnessCorrection(method, _Sized(), {"t2i": 1.0}, {"t2i": 2.0}).described()
    assert method_of(described) is method


class _Sized:
    images = texts = ()

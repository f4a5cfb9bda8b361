"""Keys that have another name now, or are gone: old ones are read with a warning, or refused with a way on."""

import pytest

from frozenalign.configuration.runs import checked_run
from frozenalign.configuration.schemas import validated
from frozenalign.system.errors import UserError

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "renamed": {"rate": "learning_rate"},
    "properties": {
        "learning_rate": {"type": "number", "default": 0.1},
        "steps": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "renamed": {"length": "epochs"},
                "removed": {"speed": "it follows from `epochs`"},
                "properties": {"epochs": {"type": "integer"}},
            },
        },
    },
}


def test_an_old_name_is_taken_with_a_warning(caplog):
    found = validated({"rate": 0.5, "steps": [{"length": 3}, {"epochs": 4}]}, SCHEMA, "mine.yaml")
    assert found == {"learning_rate": 0.5, "steps": [{"epochs": 3}, {"epochs": 4}]}
    assert [record.message for record in caplog.records] == [
        "mine.yaml: the key 'rate' is now called 'learning_rate': rename it, the old name will go",
        "mine.yaml: the key 'length' is now called 'epochs': rename it, the old name will go",
    ]


def test_present_names_say_nothing(caplog):
    assert validated({"learning_rate": 0.5}, SCHEMA, "mine.yaml") == {"learning_rate": 0.5}
    assert not caplog.records


def test_a_value_under_an_old_name_is_checked_like_any_other():
    with pytest.raises(UserError, match=r"learning_rate: found 'fast' \(text\); allowed: a number"):
        validated({"rate": "fast"}, SCHEMA, "mine.yaml")


def test_both_names_at_once_are_refused():
    with pytest.raises(UserError, match="'rate' is the old name of 'learning_rate', and both are given"):
        validated({"rate": 0.5, "learning_rate": 0.5}, SCHEMA, "mine.yaml")


def test_a_key_that_is_gone_says_what_to_do_instead():
    with pytest.raises(UserError, match=r"steps.0: the key 'speed' is gone: it follows from `epochs`"):
        validated({"steps": [{"speed": 1}]}, SCHEMA, "mine.yaml")


def test_shuffled_pairs_are_a_control_of_training_now():
    run = {"dataset": "mine", "datasets": {"mine": {"dir": "data", "split": {"shuffle_pairs": True}}}}
    with pytest.raises(UserError, match=r"'shuffle_pairs' is gone: set `training.control: shuffled_pairs`"):
        checked_run(run, "mine.yaml")

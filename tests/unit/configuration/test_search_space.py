"""Search spaces: the parameters that a trial is asked for, and the experiment that results."""

import copy
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from frozenalign.configuration.experiments import Experiment
from frozenalign.configuration.search_space import largest_experiments, propose, space_difference, space_text
from frozenalign.configuration.studies import Study, load_study
from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.system.errors import UserError

SHIPPED = Path(__file__).parents[3] / "config" / "tuning"
MLP = {"model": {"type": "mlp", "hidden_dim": 32}, "loss": {"type": "infonce"}, "training": {"num_epochs": 3}}
TYPES = {"key": "model.type", "type": "categorical", "choices": ["linear", "mlp", "attention"]}
DROPOUT = {"key": "model.dropout", "type": "float", "low": 0.0, "high": 0.4, "step": 0.1}
RATE = {"key": "training.learning_rate", "type": "float", "low": 1e-4, "high": 1e-2, "log": True}


@pytest.fixture
def study(tmp_path):
    def make(*entries: dict, base: dict = MLP) -> Study:
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({"trials": 5, "base": base, "search_space": list(entries)}))
        return load_study(path)

    return make


def proposed(study: Study, **answers) -> tuple[Experiment, set[str]]:
    """Return the experiment of a trial that gives these answers, and the names it was asked for."""
    trial = FixedTrial({name.replace("__", "."): value for name, value in answers.items()})
    experiment = propose(trial, study, "test")
    return experiment, set(trial.params)


@pytest.mark.parametrize(
    ("entry", "value", "asked_for"),
    [
        (
            {"key": "training.batch_size", "type": "categorical", "choices": [64, 128]},
            128,
            CategoricalDistribution([64, 128]),
        ),
        ({"key": "training.num_epochs", "type": "int", "low": 2, "high": 9}, 7, IntDistribution(2, 9)),
        (
            {"key": "training.warmup_steps", "type": "int", "low": 0, "high": 500, "step": 50},
            150,
            IntDistribution(0, 500, step=50),
        ),
        (
            {"key": "training.batch_size", "type": "int", "low": 16, "high": 512, "log": True},
            100,
            IntDistribution(16, 512, log=True),
        ),
        ({"key": "training.weight_decay", "type": "float", "low": 0.0, "high": 1.0}, 0.3, FloatDistribution(0.0, 1.0)),
        (RATE, 3e-3, FloatDistribution(1e-4, 1e-2, log=True)),
        ({**DROPOUT, "key": "training.gradient_clip"}, 0.2, FloatDistribution(0.0, 0.4, step=0.1)),
    ],
    ids=["categorical", "int", "int with step", "int, log", "float", "float, log", "float with step"],
)
def test_a_trial_is_asked_as_the_entry_says_and_its_answer_goes_where_the_key_says(study, entry, value, asked_for):
    trial = FixedTrial({entry["key"]: value})
    experiment = propose(trial, study(entry), "test")
    assert trial.distributions == {entry["key"]: asked_for}
    assert experiment.as_document()["training"][entry["key"].split(".")[1]] == value


def test_what_does_not_vary_is_the_base_with_its_defaults(study):
    experiment, _ = proposed(study(RATE), training__learning_rate=2e-3)
    assert experiment.model.items() >= {"type": "mlp", "output_dim": 512, "hidden_dim": 32, "dropout": 0.1}.items()
    assert (experiment.training.num_epochs, experiment.training.patience) == (3, 5)


def test_a_base_without_a_training_section_takes_every_default(study):
    base = {"model": {"type": "mlp"}, "loss": {"type": "clip"}}
    experiment, _ = proposed(study(RATE, base=base), training__learning_rate=2e-3)
    assert (experiment.training.learning_rate, experiment.training.batch_size) == (2e-3, 512)


def test_a_proposal_leaves_the_base_of_the_study_as_it_is(study):
    space = study(TYPES, DROPOUT, RATE)
    before = copy.deepcopy(space.base)
    proposed(space, model__type="linear", training__learning_rate=1e-3)
    assert space.base == before


def test_the_type_is_drawn_first_wherever_it_stands_and_only_its_own_parameters_are_asked_for(study):
    space = study(DROPOUT, {"key": "model.num_tokens", "type": "categorical", "choices": [2, 4]}, TYPES)
    experiment, asked = proposed(space, model__type="mlp", model__dropout=0.3)
    assert asked == {"model.type", "model.dropout"}
    assert experiment.model["dropout"] == 0.3
    experiment, asked = proposed(space, model__type="attention", model__dropout=0.2, model__num_tokens=4)
    assert (experiment.model["dropout"], experiment.model["num_tokens"]) == (0.2, 4)
    experiment, asked = proposed(space, model__type="linear")
    assert asked == {"model.type"}


def test_parameters_of_the_base_that_the_drawn_head_does_not_take_are_dropped(study):
    base = {**MLP, "model": {"type": "mlp", "output_dim": 64, "hidden_dim": 128, "dropout": 0.3}}
    space = study(TYPES, base=base)
    linear = proposed(space, model__type="linear")[0].model
    assert (linear["type"], linear["output_dim"]) == ("linear", 64)
    assert not {"hidden_dim", "dropout"} & linear.keys()
    kept = proposed(space, model__type="attention")[0].model
    assert (kept["hidden_dim"], kept["dropout"], kept["output_dim"]) == (128, 0.3, 64)


def test_parameters_of_the_base_that_the_drawn_loss_does_not_take_are_dropped(study):
    base = {**MLP, "loss": {"type": "siglip", "temperature": 0.2, "bias_init": "auto"}}
    losses = {"key": "loss.type", "type": "categorical", "choices": ["clip", "queue"]}
    size = {"key": "loss.queue_size", "type": "categorical", "choices": [128, 256]}
    experiment, asked = proposed(study(size, losses, base=base), loss__type="clip")
    assert experiment.loss == {"type": "clip", "temperature": 0.2, "label_smoothing": 0.0}
    assert asked == {"loss.type"}
    experiment, _ = proposed(study(size, losses, base=base), loss__type="queue", loss__queue_size=256)
    assert experiment.loss == {"type": "queue", "temperature": 0.2, "queue_size": 256, "momentum": None}


def test_numbers_are_searched_in_place_of_an_automatic_temperature(study):
    base = {**MLP, "loss": {"type": "siglip", "temperature": "auto", "bias_init": "auto"}}
    numbers = {"key": "loss.temperature", "type": "float", "low": 0.02, "high": 0.2, "log": True}
    experiment, asked = proposed(study(numbers, base=base), loss__temperature=0.03)
    assert experiment.loss == {"type": "siglip", "temperature": 0.03, "bias_init": "auto"}
    assert asked == {"loss.temperature"}


def test_an_automatic_temperature_and_a_prior_can_be_among_the_choices(study):
    starts = [
        {"key": "loss.temperature", "type": "categorical", "choices": ["auto", 0.07]},
        {
            "key": "loss.bias_init",
            "type": "categorical",
            "choices": ["auto", "prior", -10.0],
            "when": {"loss.type": ["siglip"]},
        },
    ]
    space = study(*starts, base={**MLP, "loss": {"type": "siglip"}})
    experiment, _ = proposed(space, loss__temperature="auto", loss__bias_init="prior")
    assert experiment.loss == {"type": "siglip", "temperature": "auto", "bias_init": "prior"}


def test_two_entries_of_one_key_apply_each_at_its_own_head(study):
    space = study(
        {"name": "loss of blip", "key": "loss.type", "type": "categorical", "choices": ["queue", "blip"],
         "when": {"model.type": ["blip"]}},
        {"name": "loss of others", "key": "loss.type", "type": "categorical", "choices": ["clip", "siglip"],
         "when": {"model.type": ["linear", "mlp"]}},
        {**TYPES, "choices": ["linear", "mlp", "blip"]},
    )  # fmt: skip
    for head, name, loss in (("blip", "loss of blip", "blip"), ("linear", "loss of others", "siglip")):
        experiment, asked = proposed(space, **{"model__type": head, name: loss})
        assert (experiment.model["type"], experiment.loss["type"]) == (head, loss)
        assert asked == {"model.type", name}


def test_every_condition_of_when_must_hold(study):
    wide = {"key": "model.hidden_dim", "type": "categorical", "choices": [32, 64]}
    both = {**DROPOUT, "when": {"model.hidden_dim": [64], "loss.type": ["infonce", "clip"]}}
    space = study(wide, both)
    assert proposed(space, model__hidden_dim=32)[1] == {"model.hidden_dim"}
    assert proposed(space, model__hidden_dim=64, model__dropout=0.2)[0].model["dropout"] == 0.2
    elsewhere = study(wide, {**both, "when": {"model.hidden_dim": [64], "loss.type": ["siglip"]}})
    assert proposed(elsewhere, model__hidden_dim=64)[1] == {"model.hidden_dim"}


def test_when_sees_the_default_of_a_value_that_the_base_leaves_out(study):
    space = study({**DROPOUT, "when": {"training.monitor": ["RSUM"]}})
    assert proposed(space, model__dropout=0.2)[0].model["dropout"] == 0.2


def test_an_experiment_that_nobody_could_train_is_refused_by_the_name_of_its_trial(study):
    with pytest.raises(UserError, match=r"^study s, trial 3: the head 'blip' keeps momentum copies"):
        propose(FixedTrial({"model.type": "blip"}), study({**TYPES, "choices": ["mlp", "blip"]}), "study s, trial 3")


def test_the_largest_experiments_are_the_base_and_one_of_each_head_and_loss_that_go_together(study):
    space = study(
        {**TYPES, "choices": ["linear", "mlp", "blip"]},
        {"key": "loss.type", "type": "categorical", "choices": ["queue", "siglip"]},
        {"key": "loss.queue_size", "type": "categorical", "choices": [2000, 500]},
        {"key": "model.hidden_dim", "type": "int", "low": 16, "high": 64, "step": 16},
        {"key": "model.whitening", "type": "categorical", "choices": ["none", "zca"]},
        {"key": "training.noise", "type": "categorical", "choices": ["auto", 0.1]},
        {"key": "training.batch_size", "type": "int", "low": 16, "high": 512, "log": True},
        DROPOUT,
    )
    base, *others = largest_experiments(space)
    assert (base.model["type"], base.model["hidden_dim"], base.training.batch_size) == ("mlp", 32, 512)
    assert [(each.model["type"], each.loss["type"], each.model.get("hidden_dim")) for each in others] == [
        ("linear", "queue", None),
        ("linear", "siglip", None),
        ("mlp", "queue", 64),
        ("mlp", "siglip", 64),
        ("blip", "queue", 64),
        ("mlp", "queue", 16),
        ("mlp", "siglip", 16),
        ("blip", "queue", 16),
    ]
    assert {(each.model["whitening"], each.training.batch_size) for each in others} == {("zca", 512)}
    assert {each.training.noise for each in others} == {0.1}
    assert {each.loss.get("queue_size") for each in others} == {2000, None}


def test_the_largest_experiments_leave_out_what_cannot_be_built(study):
    base = {"model": {"type": "attention", "hidden_dim": 64, "num_heads": 2}, "loss": {"type": "infonce"}}
    space = study({"key": "model.num_tokens", "type": "categorical", "choices": [4, 6]}, base=base)
    assert [each.model["num_tokens"] for each in largest_experiments(space)] == [8, 4]


def test_the_largest_experiments_meet_every_condition_of_what_is_drawn(study):
    """The largest batch goes with one choice of the three, and the widest head with a number within a range."""
    negative, fifth = {"training.same_image": ["negative"]}, {"training.warmup_steps": [5]}
    space = study(
        {"key": "training.noise", "type": "float", "low": 0.0, "high": 0.4},
        {**DROPOUT, "when": {"training.noise": ["auto"]}},
        {"key": "training.same_image", "type": "categorical", "choices": ["apart", "masked", "negative"]},
        {"key": "training.batch_size", "type": "int", "low": 64, "high": 4096, "when": negative},
        {"key": "training.warmup_steps", "type": "int", "low": 0, "high": 9},
        {"key": "model.hidden_dim", "type": "categorical", "choices": [64, 512], "when": fifth},
    )
    found = largest_experiments(space)
    assert max(each.training.batch_size for each in found) == 4096
    assert max(each.model["hidden_dim"] for each in found) == 512


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_whatever_a_shipped_study_proposes_can_be_built(path):
    study, draws = load_study(path), optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    types = set()
    for _ in range(12):
        experiment = propose(draws.ask(), study, path.stem)
        with torch.device("meta"):
            DualEncoder(experiment.model, 24, 40)
        types.add((experiment.model["type"], experiment.loss["type"]))
    assert len(types) > 6 or path.stem != "default"


def test_the_text_of_a_space_changes_with_the_space_and_with_nothing_else(study):
    space = study(TYPES, RATE)
    text = space_text(space)
    assert space_text(study(RATE, TYPES)) == text
    assert space_text(replace(space, trials=99, n_jobs=4, description="other", pruner={"type": "none"})) == text
    others = [
        study(TYPES, {**RATE, "high": 0.1}),
        study(TYPES, RATE, DROPOUT),
        study(TYPES),
        study({**TYPES, "choices": ["mlp", "linear", "attention"]}, RATE),
        study(TYPES, {**RATE, "when": {"model.type": ["mlp"]}}),
        study(TYPES, RATE, base={**MLP, "training": {"num_epochs": 4}}),
    ]
    assert len({text, *map(space_text, others)}) == 1 + len(others)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ([TYPES, {**RATE, "low": 1e-3}], "training.learning_rate had low 0.0001 and has low 0.001"),
        (
            [TYPES, {**RATE, "low": 0.5, "high": 1.5, "log": False}],
            "training.learning_rate had high 0.01, log true, low 0.0001 and has high 1.5, log false, low 0.5",
        ),
        (
            [{**TYPES, "choices": ["mlp", "linear"]}, RATE],
            'model.type had choices ["linear", "mlp", "attention"] and has choices ["mlp", "linear"]',
        ),
        ([TYPES], "training.learning_rate was removed"),
        ([TYPES, RATE, DROPOUT], "model.dropout is new"),
        ([TYPES, DROPOUT], "training.learning_rate was removed; model.dropout is new"),
    ],
)
def test_what_differs_between_two_spaces_is_said_in_words(study, after, words):
    assert space_difference(space_text(study(TYPES, RATE)), space_text(study(*after))) == words


def test_a_changed_base_is_said_before_and_after(study):
    old, new = study(RATE), study(RATE, base={**MLP, "loss": {"type": "clip"}})
    assert space_difference(space_text(old), space_text(new)) == 'base.loss.type was "infonce" and is "clip"'
    longer = study(RATE, base={**MLP, "training": {"num_epochs": 4, "patience": 2}})
    assert space_difference(space_text(old), space_text(longer)) == (
        "base.training.num_epochs was 3 and is 4; base.training.patience was null and is 2"
    )

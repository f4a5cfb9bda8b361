"""A name is refused before any job, in one sentence, or is harmless wherever it goes."""

import json
import re
import shutil
import string
from pathlib import Path

import optuna
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from frozenalign.configuration.runs import RESERVED, checked_files, checked_run
from frozenalign.configuration.schemas import read_schema
from frozenalign.configuration.variants import changes_from, checked_name, variants_of
from frozenalign.system.errors import UserError
from frozenalign.tuning.storage import Database
from tests.faults.hostile import MARK, NAMES, OTHER_VALUES
from workflow.scripts import ensemble, split, train, tune

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
CASES = 500
RULES = Path(__file__).parents[2] / "workflow" / "rules"

hostile = st.one_of(
    st.sampled_from(NAMES),
    st.text(max_size=80),
    st.text(string.punctuation + string.whitespace + "ab", max_size=12),
    st.builds("{}{}".format, st.sampled_from(["demo", "clip", "a"]), st.text(string.punctuation + "\n ", max_size=2)),
)
anything = hostile | st.sampled_from(OTHER_VALUES)
keys = hostile | st.integers() | st.none() | st.booleans()


@st.composite
def runs(draw):
    """Draw a run in which any name, path or value may be hostile, and most of the others are as they should be."""

    def one(plain, other=anything):
        return draw(other) if draw(st.integers(0, 5)) == 0 else plain

    data_set = one("demo")
    key = data_set if draw(st.booleans()) and isinstance(data_set, str) else one("demo", keys)
    split_settings = one({"assignments": one("data/karpathy.json")}) if draw(st.booleans()) else {}
    experiment = one("clip")
    base = experiment if draw(st.booleans()) and isinstance(experiment, str) else "clip"
    return {
        "dataset": data_set,
        "datasets": {key: {"dir": one("data/demo"), "split": split_settings}},
        "experiments": [experiment],
        "baselines": [one("cca")],
        "tuning": [one("study")],
        "ensembles": {one("both", keys): [one(base)]},
        "variants": {base: {one("odd", keys): {one("model.skip", keys): one("none")}}},
    }


def said_in_one_sentence(error: UserError) -> bool:
    text = str(error)
    return "\n" not in text and text.isprintable() and text.startswith("configuration: ") and len(text) < 1000


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(runs())
def test_the_check_refuses_in_one_sentence_or_what_it_lets_through_is_harmless(run):
    try:
        checked = checked_run(run, "configuration")
        variants = variants_of(checked)
    except UserError as error:
        assert str(error).startswith("variants.") or said_in_one_sentence(error)
        return
    results = [*checked["experiments"], *checked["ensembles"]]
    names = [*results, checked["dataset"], *checked["datasets"], *checked["tuning"], *(each.name for each in variants)]
    assert all(PLAIN.fullmatch(name) for name in names)
    assert not set(results) & set(RESERVED)
    assert not any(name.startswith("tuned-") for name in results)
    for data_set in checked["datasets"].values():
        for path in (data_set["dir"], data_set["split"].get("assignments", "none")):
            assert path
            assert not set(path) & set("{}<>\x00")
            path.encode()


PLACES = {
    "dataset": lambda name: {"dataset": name},
    "datasets": lambda name: {"datasets": {"demo": {"dir": "data/demo"}, name: {"dir": "data/demo"}}},
    "experiments": lambda name: {"experiments": [name]},
    "tuning": lambda name: {"tuning": [name]},
    "baselines": lambda name: {"baselines": [name]},
    "ensembles": lambda name: {"ensembles": {name: ["clip"]}},
    "ensembles.both": lambda name: {"ensembles": {"both": [name]}},
    "variants": lambda name: {"variants": {name: {"odd": {"model.skip": "none"}}}},
    "variants.clip": lambda name: {"variants": {"clip": {name: {"model.skip": "none"}}}},
    "variants.clip.odd": lambda name: {"variants": {"clip": {"odd": {name: 1}}}},
}
ALLOWED = {name for name in NAMES if PLAIN.fullmatch(name)}


@pytest.mark.parametrize("place", PLACES)
def test_every_hostile_name_is_refused_by_its_key_with_what_is_allowed(place):
    run = {"dataset": "demo", "datasets": {"demo": {"dir": "data/demo"}}, "experiments": ["clip"]}
    for name in NAMES:
        if name not in ALLOWED:
            with pytest.raises(UserError) as caught:
                checked_run(run | PLACES[place](name), "configuration")
            assert said_in_one_sentence(caught.value), str(caught.value)
            assert place in str(caught.value)
            assert "found" in str(caught.value)
            assert "allowed: " in str(caught.value)


@pytest.mark.parametrize("name", [*RESERVED, "tuned-x"])
@pytest.mark.parametrize("place", ["experiments", "ensembles"])
def test_no_experiment_takes_a_folder_of_the_workflow_or_the_name_of_a_tuned_study(place, name):
    run = {"dataset": "demo", "datasets": {"demo": {"dir": "data/demo"}}, "experiments": ["clip"]}
    with pytest.raises(UserError, match=rf"{place}: found '{name}'; the names split, .* rename it$"):
        checked_run(run | PLACES[place](name), "configuration")


@pytest.mark.parametrize("key", ["dir", "assignments"])
def test_a_path_that_snakemake_would_fill_in_is_refused_and_any_other_is_taken(key):
    taken = []
    for name in NAMES:
        one = {"dir": name} if key == "dir" else {"dir": "data/demo", "split": {"assignments": name}}
        run = {"dataset": "demo", "datasets": {"demo": one}}
        if set(name) & set("{}<>\x00\ud800") or not 0 < len(name) <= 1024:
            with pytest.raises(UserError) as caught:
                checked_run(run, "configuration")
            assert said_in_one_sentence(caught.value)
            assert f"{key}: found" in str(caught.value)
        else:
            assert checked_run(run, "configuration")["dataset"] == "demo"
            taken.append(name)
    assert {"a b", "it's", f"$(touch {MARK})", "-x", "~", "*", "日本語", "ends\n"} <= set(taken)


def test_a_file_named_like_a_wildcard_is_no_experiment(tmp_path):
    (tmp_path / "experiments").mkdir()
    for name in ("{experiment}", "*", "clip"):
        (tmp_path / "experiments" / f"{name}.yaml").write_text("model: {type: mlp}\nloss: {type: clip}\n")
    for name in ("{experiment}", "*"):
        with pytest.raises(UserError, match="experiments"):
            checked_run({"dataset": "a", "datasets": {"a": {"dir": "a"}}, "experiments": [name]}, "configuration")
    run = {"dataset": "a", "datasets": {"a": {"dir": "a"}}, "experiments": ["clip"]}
    checked_files(checked_run(run, "configuration"), tmp_path)


@settings(max_examples=CASES, deadline=None, derandomize=True)
@given(hostile | st.builds("{}={}".format, st.just("model.skip") | hostile, hostile) | hostile.map(json.dumps))
@example("model.skip=!!python/object/apply:os.system ['true']")
@example("model.skip=2026-13-45")
@example("{" * 2000)
def test_a_change_by_hand_is_read_or_refused_in_one_sentence(text):
    try:
        changes = changes_from(text)
    except UserError as error:
        assert str(error).startswith("--set ")
        assert str(error).isprintable()
        assert len(str(error)) < 1000
        return
    assert all(re.fullmatch(r"(model|loss|training)\.[a-z_]+", key) for key in changes)


@pytest.mark.parametrize("name", [name for name in NAMES if not PLAIN.fullmatch(name) and len(name) < 60])
def test_a_result_named_by_hand_has_a_name_that_no_table_or_page_takes_for_more(name):
    with pytest.raises(UserError, match=r"the experiment: name: found .*; allowed: text matching") as caught:
        checked_name(name, "the experiment")
    assert "\n" not in str(caught.value)


def test_each_script_that_names_a_result_checks_the_name(tmp_path):
    study = tmp_path / "study.yaml"
    shutil.copy("config/tuning/quick.yaml", study)
    folders = ["--data-dir", str(tmp_path), "--split-dir", str(tmp_path), "--output-dir", str(tmp_path / "out")]
    formula = "=cmd()"
    for script, arguments in (
        (train, ["--experiment", "config/experiments/clip.yaml", "--name", formula]),
        (tune, ["--study", str(study), "--name", formula]),
        (ensemble, ["--name", formula, "--models", str(tmp_path / "best_model.pt")]),
    ):
        with pytest.raises(UserError, match="name: found '=cmd"):
            script.main([*arguments, *folders])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["what?", "a?b=c&d", "#1 50%20", "{curly} {0}", 'it\'s "quoted"', "$(touch pwned)"])
def test_a_study_lies_where_its_folder_says(name, tmp_path):
    (tmp_path / name).mkdir()
    path = tmp_path / name / "study.db"
    optuna.create_study(study_name="mine", storage=Database(path).open())
    assert path.is_file()
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_the_names_of_the_rules_are_those_of_the_schema():
    pattern = read_schema("config")["properties"]["dataset"]["pattern"]
    assert f'NAME = r"{pattern.strip("^$")}"' in (RULES / "common.smk").read_text()


CHOSEN_FROM_A_LIST = {"device", "precision", "captions_rule", "images", "captions", "seed"}
# Paths below results/, and options that are whole words already.
LISTS = {"input.models:q", "params.runs:q", "params.studies:q", "params.changes:q", "params.division:q"}


@pytest.mark.parametrize("name", ["data", "split", "tune", "train", "evaluate", "report"])
def test_every_word_of_a_shell_command_is_quoted_and_joined_to_its_option(name):
    commands = re.findall(r"shell:\n\s+step\(\"\w+\"\) \+((?:\s+\".*\"\n?)+)", (RULES / f"{name}.smk").read_text())
    assert commands
    for before, word in (found for command in commands for found in re.findall(r"(\S*)\{([^}]+)\}", command)):
        assert word.endswith(":q") or word.rpartition(".")[2] in CHOSEN_FROM_A_LIST, word
        assert before.endswith("=") or word in (*LISTS, "log:q") or not word.endswith(":q"), word


def test_an_option_and_its_value_are_one_word(tmp_path):
    for name in ("-x", "--help"):
        arguments = split._parser().parse_args(
            ["--dataset=d", f"--data-dir={name}", f"--output-dir={name}", f"--assignments={name}"]
        )
        assert str(arguments.data_dir) == arguments.assignments == name

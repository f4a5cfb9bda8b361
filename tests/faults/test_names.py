"""Names become folders, table cells and words of shell commands: any other is refused, and paths are quoted."""

import re
import shutil
from pathlib import Path

import optuna
import pytest

from frozenalign.configuration.runs import RESERVED, checked_run
from frozenalign.configuration.schemas import read_schema
from frozenalign.configuration.variants import checked_name
from frozenalign.system.errors import UserError
from frozenalign.tuning.storage import Database
from tests.faults.hostile import MARK, NAMES
from tests.faults.property import assert_one_sentence
from workflow.scripts import ensemble, split, train, tune

RULES = Path(__file__).parents[2] / "workflow" / "rules"
NAME = read_schema("config")["properties"]["dataset"]
REFUSED = [name for name in NAMES if not re.search(NAME["pattern"], name) or len(name) > NAME["maxLength"]]
RUN = {"dataset": "demo", "datasets": {"demo": {"dir": "data/demo"}}, "experiments": ["clip"]}


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


@pytest.mark.parametrize("place", PLACES)
def test_a_name_that_a_path_or_a_page_cannot_hold_is_refused_by_its_key_with_what_is_allowed(place):
    for name in REFUSED:
        with pytest.raises(UserError, match=rf"^configuration: {place}.*: found .*; allowed: ") as caught:
            checked_run(RUN | PLACES[place](name), "configuration")
        assert_one_sentence(str(caught.value), place)


@pytest.mark.parametrize("name", [*RESERVED, "tuned-x"])
@pytest.mark.parametrize("place", ["experiments", "ensembles"])
def test_no_experiment_takes_a_folder_of_the_workflow_or_the_name_of_a_tuned_study(place, name):
    with pytest.raises(UserError, match=rf"{place}: found '{name}'; the names split, .* rename it$"):
        checked_run(RUN | PLACES[place](name), "configuration")


@pytest.mark.parametrize("key", ["dir", "assignments"])
def test_a_path_that_snakemake_would_fill_in_is_refused_and_any_other_is_taken(key):
    taken = []
    for name in NAMES:
        one = {"dir": name} if key == "dir" else {"dir": "data/demo", "split": {"assignments": name}}
        run = {"dataset": "demo", "datasets": {"demo": one}}
        if set(name) & set("{}<>\x00\ud800") or not 0 < len(name) <= 1024:
            with pytest.raises(UserError, match=f"{key}: found"):
                checked_run(run, "configuration")
        else:
            assert checked_run(run, "configuration")["dataset"] == "demo"
            taken.append(name)
    assert {"a b", "it's", f"$(touch {MARK})", "-x", "~", "*", "日本語", "ends\n"} <= set(taken)


@pytest.mark.parametrize("name", REFUSED)
def test_a_result_named_by_hand_has_a_name_that_paths_tables_and_pages_can_hold(name):
    with pytest.raises(UserError, match=r"^the experiment: name: found .*; allowed: a name: letters, digits"):
        checked_name(name, "the experiment")


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
    assert f'NAME = r"{NAME["pattern"].strip("^$")}"' in (RULES / "common.smk").read_text()


# Values from a list, and numbers.
PLAIN = {"device", "memory", "precision", "captions_rule", "images", "captions", "seed", "names", "threads"}
# Lists of whole words: options with their values, and paths below results/.
WORDS = {"step", "changes", "division", "assignments", "pictures", "start", "models", "parts", "runs", "studies"}
WORDS |= {"evaluations", "sources", "texts", "encoding", "encodings", "folders", "sets"}


@pytest.mark.parametrize("path", sorted(RULES.glob("*.smk")), ids=lambda path: path.stem)
def test_every_word_of_a_shell_command_is_quoted_and_joined_to_its_option(path):
    commands = re.findall(r"shell:\n((?:\s+\".*\"\n?)+)", path.read_text())
    assert len(commands) == path.read_text().count("shell:\n")
    for before, word in (found for command in commands for found in re.findall(r"(\S*)\{([^}]+)\}", command)):
        name = word.rpartition(".")[2].removesuffix(":q")
        assert word.endswith(":q") or name in PLAIN, word
        assert before.endswith("=") or name in PLAIN | WORDS | {"log"}, word


def test_an_option_and_its_value_are_one_word(tmp_path):
    for name in ("-x", "--help"):
        arguments = split._parser().parse_args(
            ["--dataset=d", f"--data-dir={name}", f"--output-dir={name}", f"--assignments={name}"]
        )
        assert str(arguments.data_dir) == arguments.assignments == name

"""Configuration: numbers are numbers, defaults are filled, and every mistake is named with what is allowed."""

import functools
import itertools
import json
import operator
from dataclasses import fields
from pathlib import Path

import pytest

from frozenalign.configuration.experiments import TrainingSettings, load_experiment
from frozenalign.configuration.runs import checked_files, checked_run, refuse_repeated_keys
from frozenalign.configuration.schemas import read_schema, with_plain_values
from frozenalign.configuration.studies import load_study
from frozenalign.configuration.yaml_text import read_yaml
from frozenalign.system.errors import UserError
from tests.faults.property import answer, places, replaced

ROOT = Path(__file__).parents[3]
VALID = """
model: {type: mlp, output_dim: 64}
loss: {type: siglip, bias_init: auto}
training: {learning_rate: 1e-4, batch_size: 32}
"""


def experiment(tmp_path, text: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return load_experiment(path)


def test_every_shipped_file_is_valid():
    for path in (ROOT / "config" / "experiments").rglob("*.yaml"):
        load_experiment(path)
    for path in (ROOT / "config" / "tuning").glob("*.yaml"):
        load_study(path)
    for name in ("config", "coco", "ablation", "compare", "controls"):
        run = checked_run(read_yaml(ROOT / "config" / f"{name}.yaml"), name)
        checked_files(run, [ROOT / "config"])


def test_scientific_notation_without_a_dot_is_a_number(tmp_path):
    assert experiment(tmp_path, VALID).training.learning_rate == 1e-4


def test_defaults_come_from_the_schema_and_from_the_head(tmp_path):
    found = experiment(tmp_path, VALID)
    common = {"output_dim": 64, "skip": "none", "whitening": "none", "shrinkage": 0.1}
    common |= {"hub_prototypes": 0, "hub_temperature": 0.1, "hub_rate": 1}
    assert found.model == {"type": "mlp", **common, "hidden_dim": 1024, "dropout": 0.1}
    assert found.loss == {"type": "siglip", "temperature": 0.1, "bias_init": "auto"}
    assert found.training.num_epochs == 50


def test_the_dataclass_and_the_schema_have_the_same_keys():
    properties = read_schema("experiment")["properties"]["training"]["properties"]
    assert [field.name for field in fields(TrainingSettings)] == list(properties)
    assert all("description" in value for value in properties.values())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("batch_size: 32", "batchsize: 32", ["training", "unknown key 'batchsize'", "did you mean batch_size?"]),
        ("output_dim: 64", "hiden_dim: 64", ["model", "unknown key 'hiden_dim'", "hidden_dim"]),
        ("output_dim: 64", "num_tokens: 4", ["model", "unknown key 'num_tokens'", "dropout"]),
        ("batch_size: 32", "batch_size: lots", ["training.batch_size", "'lots' (text)", "an integer ≥ 2"]),
        ("batch_size: 32", "batch_size: true", ["training.batch_size", "true or false", "an integer ≥ 2"]),
        ("1e-4", "-1", ["training.learning_rate", "found -1", "a number > 0"]),
        ("type: mlp", "type: mpl", ["model.type", "'mpl'", "attention", "mlp"]),
        ("type: siglip", "type: sigmoid", ["loss.type", "'sigmoid'", "siglip"]),
        ("bias_init: auto", "bias_init: never", ["bias_init", "'never'", "a number or auto"]),
        ("loss:", "los:", ["unknown key 'los'", "did you mean loss?"]),
        ("{learning_rate: 1e-4, batch_size: 32}", "nothing", ["training", "'nothing'", "a mapping"]),
    ],
)
def test_a_mistake_is_named_with_file_key_finding_and_remedy(tmp_path, old, new, said):
    with pytest.raises(UserError) as caught:
        experiment(tmp_path, VALID.replace(old, new))
    message = str(caught.value)
    assert "mine.yaml" in message
    assert "\n" not in message
    for part in said:
        assert part in message


def test_a_key_that_stands_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"line 3: the key 'model' appears twice"):
        experiment(tmp_path, "model: {type: mlp}\nloss: {type: clip}\nmodel: {type: clip}\n")


def test_a_head_with_momentum_copies_needs_a_loss_that_uses_them(tmp_path):
    with pytest.raises(UserError, match=r"'blip' keeps momentum copies.*'clip'.*blip or queue"):
        experiment(tmp_path, "model: {type: blip}\nloss: {type: clip}\n")
    assert experiment(tmp_path, "model: {type: mlp}\nloss: {type: queue}\n").loss["momentum"] is None


@pytest.mark.parametrize("loss", ["infonce", "queue"])
def test_a_temperature_cannot_be_kept_fixed_in_a_loss_that_learns_none(tmp_path, loss):
    text = "model: {type: clip, learnable_temp: false}\nloss: {type: %s}\n"
    with pytest.raises(UserError, match=rf"\.yaml: model\.learnable_temp: the loss '{loss}' learns no temperature"):
        experiment(tmp_path, text % loss)
    assert experiment(tmp_path, text % "siglip").model["learnable_temp"] is False


@pytest.mark.parametrize("head", ["attention", "cross_modal"])
def test_sizes_that_do_not_divide_are_refused(tmp_path, head):
    sizes = "hidden_dim: 100, num_tokens: 8, num_heads: 4"
    said = r"mine.yaml: model.hidden_dim: found 100; allowed: a multiple of num_tokens × num_heads, 8 × 4: change one"
    with pytest.raises(UserError, match=said):
        experiment(tmp_path, f"model: {{type: {head}, {sizes}}}\nloss: {{type: infonce}}\n")
    assert experiment(tmp_path, f"model: {{type: {head}, {sizes.replace('100', '96')}}}\nloss: {{type: infonce}}\n")


@pytest.mark.parametrize(
    ("loss", "temperature", "bounds"),
    [("clip", 0.005, "0.01 to 1.0"), ("clip", 2.0, "0.01 to 1.0"), ("blip", 0.8, "0.001 to 0.5")],
)
def test_a_temperature_that_the_loss_would_change_at_once_is_refused(tmp_path, loss, temperature, bounds):
    with pytest.raises(
        UserError, match=rf"loss.temperature: found {temperature}; allowed in the loss '{loss}': {bounds}"
    ):
        experiment(tmp_path, f"model: {{type: mlp}}\nloss: {{type: {loss}, temperature: {temperature}}}\n")
    for allowed in ("auto", *bounds.split(" to ")):
        experiment(tmp_path, f"model: {{type: mlp}}\nloss: {{type: {loss}, temperature: {allowed}}}\n")


def test_more_devices_than_pairs_in_a_batch_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"training.devices: found 3; allowed: at most `batch_size`, 2"):
        experiment(tmp_path, "model: {type: mlp}\nloss: {type: clip}\ntraining: {batch_size: 2, devices: 3}\n")


def test_a_linear_path_beside_a_linear_map_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"model.skip: the head 'linear' is a linear map itself: set `init: cca`"):
        experiment(tmp_path, "model: {type: linear, skip: cca}\nloss: {type: clip}\n")


@pytest.mark.parametrize("whitening", ["pca", "zca"])
def test_a_whitening_before_a_map_that_starts_from_the_cca_is_refused(tmp_path, whitening):
    with pytest.raises(UserError, match=r"model.whitening: the CCA that `init` asks for takes raw rows: set"):
        experiment(tmp_path, f"model: {{type: linear, init: cca, whitening: {whitening}}}\nloss: {{type: clip}}\n")


RUN = {"dataset": "a", "datasets": {"a": {"dir": "data/a"}}}


def test_the_home_folder_stands_for_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    data_set = {"images": "~/one.npy", "texts": "~/texts.npy", "split": {"assignments": "~/division.json"}}
    found = checked_run({"dataset": "a", "datasets": {"a": data_set}}, "here")["datasets"]["a"]
    assert (found["images"], found["texts"]) == ("/home/me/one.npy", "/home/me/texts.npy")
    assert found["split"]["assignments"] == "/home/me/division.json"


def test_a_key_that_stands_twice_in_a_configuration_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seeds: [0]\nseeds: [1]\n")
    with pytest.raises(UserError, match=r"mine.yaml is not valid YAML \(line 2: the key 'seeds' appears twice\)"):
        refuse_repeated_keys([path])


@pytest.mark.parametrize(
    ("given", "plain"), [("data/mine/", "data/mine"), ("data//mine", "data/mine"), ("./a/../b", "a/../b"), ("~", "~")]
)
def test_slashes_that_say_nothing_are_left_out_of_a_path(given, plain):
    data_set = {"dir": given, "split": {"assignments": given}}
    found = checked_run({"dataset": "a", "datasets": {"a": data_set}}, "here")["datasets"]["a"]
    assert (found["dir"], found["split"]["assignments"]) == (plain, plain)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": "b"}, "dataset: found 'b'; allowed: a"),
        ({"baselines": ["cca", "magic"]}, "baselines: found 'magic'"),
        ({"experiments": [], "baselines": [], "tuning": []}, "all empty: name at least one"),
        ({"seed": 1}, "unknown key 'seed'; did you mean seeds?"),
        (
            {"datasets": {"a": {"dir": "x", "split": {"fractions": {"train": 0.9, "val": 0.1, "test": 0.1}}}}},
            "add up to 1.1",
        ),
        ({"datasets": {"a": {}}}, "the key 'dir' is missing"),
        ({"ensembles": {"mlp": ["clip"]}}, "ensembles: 'mlp' is the name of an experiment or a baseline"),
        ({"ensembles": {"cca": ["clip"]}}, "ensembles: 'cca' is the name of an experiment or a baseline"),
        ({"ensembles": {"tuned-mlp": ["clip"]}}, "ensembles: found 'tuned-mlp'.*belong to other results"),
        ({"ensembles": {"all": ["clip", "clop"]}}, "ensembles.all: found 'clop'; allowed: linear, mlp.*blip$"),
        ({"ensembles": {"all": ["cca"]}}, "ensembles.all: found 'cca'; allowed: linear"),
        ({"ensembles": {"all": ["tuned-mlp"]}, "tuning": ["clip"]}, "found 'tuned-mlp'; allowed:.*tuned-clip$"),
        ({"ensembles": {"all": []}}, "ensembles.all: found"),
        ({"ensembles": {"a/b": ["clip"]}}, "a/b"),
        ({"device": "tpu"}, "device: found 'tpu'.*auto, cpu, cuda, mps"),
        ({"device": "1"}, r"device: found '1' \(text\)"),
        ({"seeds": ["-1"]}, r"seeds.0: found -1 \(an integer\); allowed: an integer ≥ 0"),
        ({"seeds": ["0", "1.5"]}, r"seeds.1: found 1.5 \(a number\)"),
        ({"seeds": ["0", "one"]}, r"seeds.1: found 'one' \(text\)"),
        ({"seeds": ["["]}, r"seeds.0: found '\[' \(text\); allowed: an integer"),
        ({"seeds": ["9" * 30]}, r"seeds.0: found 9+ \(an integer\); allowed: an integer ≥ 0 ≤ 9223372036854775807$"),
        ({"seeds": ["true"]}, r"seeds.0: found True \(true or false\)"),
        ({"seeds": ["null"]}, r"seeds.0: found nothing \(null\)"),
        ({"seeds": ["1", 1]}, "seeds: 1 appears twice: remove one$"),
        ({"seeds": 1}, r"found 1 \(an integer\); allowed: a list .*: write seeds: \[1\], or --config 'seeds=\[1\]'$"),
        ({"experiments": "mlp"}, r"found 'mlp'.*: write experiments: \[mlp\], or --config 'experiments=\[mlp\]'$"),
        ({"ensembles": {"all": "mlp"}}, r"ensembles.all: found 'mlp'.*--config 'ensembles=\{all: \[mlp\]\}'$"),
        ({"datasets": {2017: {"dir": "x"}}}, r"datasets: found 2017 \(an integer\); allowed: a name: letters"),
        ({"datasets": {"a": {"dir": "x", "split": {"shuffle_pairs": True}}}}, "unknown key 'shuffle_pairs'"),
        (None, r"the document: found nothing \(null\); allowed: a mapping with the keys dataset, datasets"),
    ],
)
def test_mistakes_in_a_run(change, said):
    with pytest.raises(UserError, match=said):
        checked_run(change and RUN | change, "configuration")


OTHERS = [None, True, 0, -1, 1.5, "text", [], ["a"], {}, {"a": 1}, ...]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.yaml", lambda path: checked_run(read_yaml(path), str(path))),
        ("experiments/clip.yaml", load_experiment),
        ("tuning/quick.yaml", load_study),
    ],
)
def test_any_value_replaced_or_left_out_is_taken_or_refused_in_one_sentence(name, read, tmp_path):
    path, document = tmp_path / "odd.yaml", read_yaml(ROOT / "config" / name)
    for place, value in itertools.product(places(document), OTHERS):
        path.write_text(json.dumps(replaced(document, place, value)))
        answer(lambda: read(path), path.name)


@pytest.mark.parametrize("name", ["config", "experiment", "tuning", "results"])
def test_every_pattern_has_a_title_that_says_what_it_allows(name):
    schema = read_schema(name)
    for place in places(schema):
        if place[-1:] == ("pattern",):
            assert functools.reduce(operator.getitem, place[:-1], schema)["title"]


def test_numbers_that_snakemake_passes_as_text_are_numbers_where_the_schema_wants_numbers():
    split = {"fractions": {"train": "0.8", "val": "1e-2", "test": ".04"}, "tuning_pairs": "1e3", "seed": "7"}
    counts = {"counts": {"train": "5", "val": "1", "test": "2"}}
    data_sets = {"a": {"dir": "8", "generate": {"images": "20"}, "split": split}, "b": {"dir": "9", "split": counts}}
    run = checked_run(RUN | {"seeds": ["0", "1"], "datasets": data_sets}, "configuration")
    assert run["seeds"] == [0, 1]
    assert run["datasets"]["a"]["generate"]["images"] == 20
    found = run["datasets"]["a"]["split"]
    assert found["fractions"] == {"train": 0.8, "val": 0.01, "test": 0.04}
    assert (found["tuning_pairs"], found["seed"]) == (1000, 7)
    assert run["datasets"]["b"]["split"]["counts"] == {"train": 5, "val": 1, "test": 2}
    assert [type(value) for value in (run["seeds"][0], found["tuning_pairs"])] == [int, int]


def test_text_that_looks_like_a_number_stays_text_where_the_schema_wants_text():
    named = {"dataset": "7", "datasets": {"7": {"dir": "1e3", "split": {"assignments": "null"}}}}
    run = checked_run(named | {"experiments": ["7", "no", "1e3"], "ensembles": {"8": ["7", "no"]}}, "configuration")
    assert (run["dataset"], run["experiments"], run["ensembles"]) == ("7", ["7", "no", "1e3"], {"8": ["7", "no"]})
    assert (run["datasets"]["7"]["dir"], run["datasets"]["7"]["split"]["assignments"]) == ("1e3", "null")


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "boolean"}, "false", False),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "null", None),
        ({"anyOf": [{"type": "number"}, {"enum": ["auto"]}]}, "1e-4", 1e-4),
        ({"anyOf": [{"type": "number"}, {"enum": ["auto"]}]}, "auto", "auto"),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, "7", "7"),
        ({"enum": ["7"]}, "8", "8"),
        ({}, "7", "7"),
    ],
)
def test_a_text_is_read_only_where_its_schema_refuses_it_and_takes_a_plain_value(schema, text, value):
    assert with_plain_values({"a": [text]}, {"properties": {"a": {"items": schema}}}) == {"a": [value]}


def test_an_experiment_file_still_distinguishes_text_from_numbers(tmp_path):
    with pytest.raises(UserError, match=r"batch_size: found '32' \(text\)"):
        experiment(tmp_path, VALID.replace("batch_size: 32", "batch_size: '32'"))


def test_an_ensemble_takes_experiments_and_tuned_ones():
    ensembles = {"all": ["clip", "tuned-mlp"]}
    assert checked_run(RUN | {"tuning": ["mlp"], "ensembles": ensembles}, "configuration")["ensembles"] == ensembles
    assert checked_run(RUN, "configuration")["ensembles"] == {}


def test_an_experiment_file_that_does_not_exist_is_named(tmp_path):
    run = checked_run(RUN | {"experiments": ["absent"]}, "configuration")
    with pytest.raises(UserError, match=r"absent.yaml not found"):
        checked_files(run, [tmp_path])

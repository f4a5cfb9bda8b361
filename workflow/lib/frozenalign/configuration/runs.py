"""The configuration of a run, checked with the files that it names."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenalign.configuration.encodings import refuse_wrong_encodings
from frozenalign.configuration.evaluation_sets import checked_sets
from frozenalign.configuration.experiments import Experiment, load_experiment
from frozenalign.configuration.registrations import baselines
from frozenalign.configuration.schemas import read_schema, refuse_single_values, validated, with_plain_values
from frozenalign.configuration.studies import TUNED, Study, load_study
from frozenalign.configuration.variants import variants_of
from frozenalign.configuration.yaml_text import read_yaml
from frozenalign.system.errors import UserError, quoted

# Folders beside those of the experiments.
RESERVED = ("split", "tuning", "report", "logs", "benchmarks", "embeddings", "encode", "evaluation_sets", "encodings")
# What encodes generated pictures and captions, in the places that demo_data gives them.
OF_THE_DEMO = {"image_encoder": "demo-pictures", "text_encoder": "demo-words"}
DRAWN = {"images": "images", "captions": "captions.json"}


def checked_run(document: Any, where: str) -> dict[str, Any]:
    """Return the run configuration with defaults; the names of data sets, results and ensembles are checked as well."""
    schema = read_schema("config")
    document = with_encoders_of_the_demo(with_plain_values(document, schema), where)
    refuse_single_values(document, schema, where)
    run = validated(document, schema, where)
    run |= {section: _with_home(run[section]) for section in ("datasets", "evaluation_sets")}
    if run["dataset"] not in run["datasets"]:
        raise UserError(f"{where}: dataset: found {run['dataset']!r}; allowed: {', '.join(sorted(run['datasets']))}")
    for name in run["baselines"]:
        if name not in baselines():
            raise UserError(f"{where}: baselines: found {quoted(name)}; allowed: {', '.join(sorted(baselines()))}")
    if not (run["experiments"] or run["baselines"] or run["tuning"]):
        raise UserError(f"{where}: experiments, baselines and tuning are all empty: name at least one")
    _refuse_names(run, where)
    split = run["datasets"][run["dataset"]]["split"]
    if split.get("counts") and split.get("assignments"):
        raise UserError(f"{where}: datasets.{run['dataset']}.split: give `counts` or `assignments`, not both")
    if (total := sum(split["fractions"].values())) > 1 + 1e-9:
        raise UserError(f"{where}: datasets.{run['dataset']}.split.fractions: they add up to {total:g}; at most 1")
    for name, data_set in run["datasets"].items():
        _find_folder(name, data_set, where)
        encode = data_set.get("encode") or {}
        for section, key in ((data_set, "dir"), (data_set["split"], "assignments"), (encode, "images")):
            if key in section:
                # Snakemake does not find `data//demo/`.
                section[key] = str(Path(section[key]))
        if encode:
            captions = [encode["captions"]] if isinstance(encode["captions"], str) else encode["captions"]
            encode["captions"] = [str(Path(path)) for path in captions]
    refuse_wrong_encodings(run, where)
    return run | {"evaluation_sets": checked_sets(run, where)}


def refuse_repeated_keys(paths: Iterable[str | Path]) -> None:
    """Refuse configuration files in which a key stands twice: Snakemake would take the last."""
    for path in paths:
        read_yaml(path)


def _with_home(value: Any) -> Any:
    """Return a section with the home folder in place of `~/` at the beginning of its paths."""
    if isinstance(value, Mapping):
        return {key: _with_home(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_home(inner) for inner in value]
    return str(Path(value).expanduser()) if isinstance(value, str) and value.startswith("~/") else value


def with_encoders_of_the_demo(document: Any, where: str) -> Any:
    """Return a run in which each data set with `generate` has an `encode` section of what is drawn there.

    `generate: null` cancels such a section as well: it names no pictures of its own.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("datasets"), Mapping):
        return document
    filled = {}
    for name, data_set in document["datasets"].items():
        filled[name] = data_set
        if not isinstance(data_set, Mapping) or "generate" not in data_set:
            continue
        encode = data_set.get("encode") or {}
        if not isinstance(encode, Mapping):
            continue
        if data_set["generate"] is None:
            filled[name] = data_set | ({} if "images" in encode else {"encode": None})
        elif DRAWN.keys() & encode.keys():
            raise UserError(
                f"{where}: datasets.{name}: `generate` draws the pictures that are encoded: leave `encode.images` and "
                "`encode.captions` out, or set `generate: null`"
            )
        elif isinstance(data_set.get("dir"), str):
            drawn = {key: f"{data_set['dir']}/{place}" for key, place in DRAWN.items()}
            filled[name] = data_set | {"encode": OF_THE_DEMO | encode | drawn}
    return document | {"datasets": filled}


def _find_folder(name: str, data_set: dict[str, Any], where: str) -> None:
    """Set `dir` of a data set that names its files instead; both, or neither, are refused."""
    if not data_set.get("images"):
        for key in ("texts", "metadata"):
            if key in data_set:
                raise UserError(
                    f"{where}: datasets.{name}: `{key}` is given without `images`: name the image embeddings"
                )
        if "dir" not in data_set:
            raise UserError(
                f"{where}: datasets.{name}: the key 'dir' is missing: give a folder, or files as `images` and `texts`"
            )
        return
    for key in ("dir", "generate", "encode"):
        if data_set.get(key):
            raise UserError(f"{where}: datasets.{name}: give `{key}` or `images`, not both")
    data_set["dir"] = f"results/{name}/embeddings"


def _refuse_names(run: Mapping[str, Any], where: str) -> None:
    """Refuse names of experiments, variants and ensembles that are reserved, taken or unknown."""
    for key in ("experiments", "ensembles"):
        for name in run[key]:
            if name in RESERVED or name.startswith(TUNED):
                raise UserError(
                    f"{where}: {key}: found {name!r}; the names {', '.join(RESERVED)} and tuned-… belong to other "
                    "results: rename it"
                )
    variants = variants_of(run)
    trained = [*run["experiments"], *(variant.experiment for variant in variants)]
    trained += [f"{TUNED}{study}" for study in run["tuning"]]
    names = [*trained, *baselines()]
    for variant in variants:
        if variant.base not in run["experiments"]:
            raise UserError(
                f"{where}: variants: found {variant.base!r}; allowed: {', '.join(run['experiments']) or 'none'}, "
                "the run's `experiments`"
            )
        if names.count(variant.experiment) > 1:
            raise UserError(
                f"{where}: variants.{variant.base}.{variant.name}: another result is named {variant.experiment!r} "
                "as well: rename one of them"
            )
    for name, members in run["ensembles"].items():
        if name in names:
            raise UserError(f"{where}: ensembles: {name!r} is the name of an experiment or a baseline: rename it")
        for member in members:
            if member not in trained:
                raise UserError(f"{where}: ensembles.{name}: found {quoted(member)}; allowed: {', '.join(trained)}")


@dataclass(frozen=True)
class RunFiles:
    """What the files of a run contain: its experiments and variants, by the name of their results, and its studies."""

    experiments: dict[str, Experiment]
    studies: dict[str, Study]

    def takes_a_start(self, name: str) -> bool:
        """Return whether an experiment or study of the run needs the file of the run's CCA; a control finds its own."""
        if name in self.studies:
            return self.studies[name].takes_a_start
        experiment = self.experiments.get(name)
        return bool(experiment and experiment.takes_a_start and experiment.training.control == "none")


def settings_file(kind: str, name: str, folders: Sequence[Path]) -> Path:
    """Return the file of a kind (experiments, tuning) and a name in the first `config` folder that has it."""
    paths = [folder / kind / f"{name}.yaml" for folder in folders]
    return next((path for path in paths if path.exists()), paths[0])


def experiment_file(run: Mapping[str, Any], name: str, folders: Sequence[Path]) -> Path:
    """Return the file of an experiment: in the run's `experiment_folder` if it has one of that name."""
    if within := run["experiment_folder"]:
        path = settings_file("experiments", f"{within}/{name}", folders)
        if path.exists():
            return path
    return settings_file("experiments", name, folders)


def _refuse_missing_folder(run: Mapping[str, Any], folders: Sequence[Path]) -> None:
    within = run["experiment_folder"]
    if within and not any((folder / "experiments" / within).is_dir() for folder in folders):
        raise UserError(f"experiment_folder: {folders[0] / 'experiments' / within} not found: create it, or set null")


def checked_files(run: Mapping[str, Any], folders: Sequence[Path]) -> RunFiles:
    """Return all checked experiments, variants and studies of a run, read from `config` folders."""
    _refuse_missing_folder(run, folders)
    experiments = {}
    for name in run["experiments"]:
        path = experiment_file(run, name, folders)
        if name in baselines():
            raise UserError(f"experiments: {name!r} is the name of a baseline: rename {path}")
        experiments[name] = load_experiment(path)
    for variant in variants_of(run):
        where = f"variants.{variant.base}.{variant.name}"
        if (own := experiment_file(run, variant.experiment, folders)).exists():
            raise UserError(f"{where}: its results would overwrite those of {own}: rename the variant or that file")
        try:
            base = experiment_file(run, variant.base, folders)
            experiments[variant.experiment] = load_experiment(base, variant.changes)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    studies = {name: load_study(settings_file("tuning", name, folders)) for name in run["tuning"]}
    return RunFiles(experiments, studies)

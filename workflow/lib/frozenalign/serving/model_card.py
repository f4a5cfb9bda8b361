"""The model card of an exported model: README.md with the header that the Hugging Face Hub reads."""

import html
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml

from frozenalign.models.dual_encoder import DualEncoder
from frozenalign.serving.sentence_modules import FOLDER
from frozenalign.system.errors import one_line

TEMPLATE = Path(__file__).parents[1] / "report" / "model_card.md.jinja"
DIRECTIONS = {"i2t": "image to text", "t2i": "text to image"}
RECALLS = ("R@1", "R@5", "R@10")
RANKINGS = {"reranked": "re-ranked by the pair scorer", "hubness_corrected": "hubness-corrected"}
SETTINGS = ("name", "library", "revision", "pooling", "prompt", "dtype", "max_length", "image_size")
FACTS = ("commit", "weights")
LONGEST = 1000
# The name of a model on the Hub, of a library that takes its models from there.
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")
HUB_LIBRARIES = {"transformers", "sentence-transformers", "timm", "open_clip_torch"}


def model_card(facts: Mapping[str, Any], model: DualEncoder, files: Collection[str]) -> str:
    """Return the text of README.md; the licence in its header is left to the user.

    facts: of `facts_of_run`. model: the trained one. files: names of all files of the folder.
    """
    template = jinja2.Template(
        TEMPLATE.read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    has_routes, metrics = any(name.startswith(f"{FOLDER}/") for name in files), facts["metrics"] or {}
    header = _header(facts, "image.onnx" in files, has_routes)
    return template.render(
        header=yaml.safe_dump(header, sort_keys=False, allow_unicode=True),
        name=_text(_name(facts)),
        head=model.settings["type"],
        dims=model.dims,
        width=model.settings["output_dim"],
        hub_prototypes=model.settings.get("hub_prototypes"),
        onnx="image.onnx" in files,
        rerank_k=model.scorer is not None and model.head.rerank_k,
        pair_scorer="pair_scorer.onnx" in files,
        routes=has_routes and FOLDER,
        dataset=_code(facts["dataset"] or "a data set without a name"),
        experiment=_code(facts["experiment"]),
        seed=facts["seed"],
        counts=_counts(facts["split"]),
        inputs=[(name, _code(sha256)) for name, sha256 in facts["inputs"].items()],
        encoders=facts["encoders"] and list(_encoders(facts["encoders"])),
        results=_results(facts["metrics"]),
        hubness_corrected=bool(metrics.get("hubness_corrected")),
        warnings=list(map(_text, dict.fromkeys([*facts["warnings"], *(metrics.get("warnings") or [])]))),
    )


def _header(facts: Mapping[str, Any], with_onnx: bool, with_routes: bool) -> dict[str, Any]:
    """Return the metadata for the Hub."""
    tags = ["frozenalign", "image-text-retrieval", "cross-modal-retrieval"]
    tags += ["onnx"] if with_onnx else []
    tags += ["sentence-transformers"] if with_routes else []
    header: dict[str, Any] = {"library_name": "frozenalign", "pipeline_tag": "feature-extraction", "tags": tags}
    if bases := _repositories(facts["encoders"]):
        header |= {"base_model": bases, "base_model_relation": "adapter"}
    if facts["metrics"]:
        header["model-index"] = [{"name": _name(facts), "results": [_result(facts["dataset"], facts["metrics"])]}]
    return header


def _repositories(encoders: Mapping[str, Any] | None) -> list[str]:
    """Return the encoders that are models of the Hub."""
    found = [encoders[modality] for modality in ("images", "texts")] if encoders else []
    names = [each["name"] for each in found if each["library"] in HUB_LIBRARIES]
    return list(dict.fromkeys(name for name in names if REPOSITORY.fullmatch(name)))


def _result(dataset: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recalls of the plain ranking, as the Hub lists results."""
    named = dataset or "unnamed"
    recalls = [
        {
            "type": recall.replace("R@", "recall_at_"),
            "name": f"{recall}, {label}",
            "value": round(metrics["full"][direction][recall], 2),
        }
        for direction, label in DIRECTIONS.items()
        for recall in RECALLS
    ]
    return {
        "task": {"type": "image-text-retrieval", "name": "Image-text retrieval"},
        "dataset": {"type": named, "name": named, "split": metrics["protocol"]["split"]},
        "metrics": recalls,
    }


def _name(facts: Mapping[str, Any]) -> str:
    return "-".join(part for part in (facts["dataset"], facts["experiment"]) if part)


def _counts(split: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """Return the numbers of images and pairs of each split."""
    return [
        {"name": _text(name), **{what: f"{counts[what]:,}" for what in ("images", "pairs")}}
        for name, counts in (split["counts"] if split else {}).items()
        if name != "train_tuning"
    ]


def _encoders(encoders: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what each setting is for images and for texts, those that neither has left out."""
    both = [encoders[modality] for modality in ("images", "texts")]
    found = {name: [each.get(name) for each in both] for name in SETTINGS}
    found |= {name: [each["facts"].get(name) for each in both] for name in FACTS}
    for name, values in found.items():
        if any(value is not None for value in values):
            yield name, *("" if value is None else _code(str(value)) for value in values)


def _results(metrics: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the conditions of the results, and one row for each ranking and direction."""
    if metrics is None:
        return None
    protocol, rows = metrics["protocol"], []
    rankings = {"plain": metrics} | {label: metrics[key] for key, label in RANKINGS.items() if metrics[key]}
    for label, found in rankings.items():
        intervals = (found.get("intervals") or {}).get("full", {})
        for direction, named in DIRECTIONS.items():
            values, ends = found["full"][direction], intervals.get(direction, {})
            rows.append([label, named, *(_with_interval(values[name], ends.get(name)) for name in RECALLS)])
    counts = {what: f"{protocol[what]:,}" for what in ("images", "captions")}
    return {**counts, "split": _code(protocol["split"]), "rows": rows}


def _with_interval(value: float, ends: Sequence[float] | None) -> str:
    return f"{value:.1f} ({ends[0]:.1f} to {ends[1]:.1f})" if ends else f"{value:.1f}"


def _text(text: str) -> str:
    """Return a text of a data file as one line of Markdown that is no markup and ends no cell of a table."""
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", html.escape(one_line(text, LONGEST), quote=False))


def _code(text: str) -> str:
    """Return a text of a data file as code in Markdown, where nothing is markup but the end of code or of a cell."""
    shown = one_line(text, LONGEST).replace("`", "'").replace("|", r"\|")
    return f"`{shown}`"

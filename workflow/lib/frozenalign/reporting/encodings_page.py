"""The page that compares the encodings of one set: readable offline, made from the files that the steps wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from frozenalign.plots.encodings import agreement_figure, matrix_figure, similarity_figure
from frozenalign.reporting.encoded_sets import MEASURES, SIDES, EncodedSet, in_order_of, similarity_table
from frozenalign.reporting.encodings import EncodingsBoard, agreement
from frozenalign.reporting.leaderboard import RunResult, chance
from frozenalign.reporting.pictures import embedded_figure
from frozenalign.system.pages import page_templates, policy_hash

TEMPLATES = Path(__file__).parents[1] / "report"
SHOWN_DPI = 82
# What an encoding is told by, beside its name; what all encodings of a side share is shown once.
SETTINGS = ("pooling", "layer", "prompt", "image_size", "max_length", "dtype", "revision")


def render_encodings(dataset: str, sets: Sequence[EncodedSet], runs: Sequence[RunResult], board: EncodingsBoard) -> str:
    """Return the page: HTML that contains all its pictures, styles and scripts."""
    rows = board.rows.assign(pair=[_pair(row) for row in board.rows.to_dict("records")])
    order = rows[rows["best_of_set"]]
    by_pair = rows.set_index("set").loc[order["set"]].reset_index()
    similarity = similarity_table(sets)
    agreed = agreement(rows)
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("encodings.css", "sorting.js"))
    trained = [name for name in board.heads["experiment"] if (rows["experiment"] == name).sum() > 1]
    captions = runs[0].hits[runs[0].experiment].captions
    return _template().render(
        dataset=dataset,
        protocol=runs[0].metrics["protocol"],
        rows=rows.to_dict("records"),
        best=rows[rows["best"]].to_dict("records")[0],
        pairs=order.to_dict("records"),
        heads=board.heads.to_dict("records"),
        similarity=similarity.to_dict("records"),
        measures=MEASURES,
        agreement=agreed,
        chance_rsum=chance(captions)["RSUM"],
        warnings=_warnings(sets, runs),
        encodings={side: _encodings(sets, side) for side in SIDES},
        sets=sets,
        matrix=_picture(matrix_figure(by_pair.assign(chosen_of_head=by_pair["best_of_head"]))),
        similarity_picture=_picture(similarity_figure(in_order_of(sets, similarity))),
        agreement_picture=_picture(agreement_figure(rows, MEASURES, trained)) if agreed else None,
        style=style,
        style_hash=policy_hash(style),
        script=script,
        script_hash=policy_hash(script),
    )


def _picture(figure: Figure) -> dict[str, Any]:
    """Return a figure as a data URI, with the width in pixels at which it is shown."""
    return {"uri": embedded_figure(figure), "width": round(SHOWN_DPI * figure.get_figwidth())}


def _pair(row: dict[str, Any]) -> str:
    return f"{row['images']} + {row['texts']}"


def _warnings(sets: Sequence[EncodedSet], runs: Sequence[RunResult]) -> dict[str, list[str]]:
    """Return the results that each warning is about; none where it is about all."""
    titles = {each.name: _pair(each.encodings) for each in sets}
    found: dict[str, list[str]] = {}
    for run in runs:
        for text in dict.fromkeys(run.metrics["warnings"]):
            found.setdefault(text, []).append(f"{run.experiment} on {titles[run.folder.absolute().parents[1].name]}")
    return {text: [] if len(names) == len(runs) else names for text, names in found.items()}


def _encodings(sets: Sequence[EncodedSet], side: str) -> list[dict[str, Any]]:
    """Return what is recorded of each encoding of a side, once."""
    width = {"images": "image_dim", "texts": "text_dim"}[side]
    found: dict[str, dict[str, Any]] = {}
    for each in sets:
        recorded = each.manifest["encoding"]
        about = {"title": each.encodings[side], "width": each.manifest[width], "recorded": bool(recorded)}
        found.setdefault(each.encodings[side], about | (dict(recorded[side]) if recorded else {}))
    return list(found.values())


def _template() -> jinja2.Template:
    environment = page_templates(TEMPLATES)
    environment.globals |= {"missing": pd.isna, "settings": SETTINGS}
    return environment.get_template("encodings.html.jinja")

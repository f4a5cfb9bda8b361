"""The report of a run: one page, readable offline, made from the files that the steps wrote."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from frozenalign.reporting.findings import Findings
from frozenalign.reporting.headline import headline
from frozenalign.reporting.sections import (
    ablation,
    benchmarks,
    board,
    diagnostics,
    examples,
    pictures,
    run,
    training,
    tuning,
)
from frozenalign.system.pages import page_templates, policy_hash

TEMPLATES = Path(__file__).parents[1] / "report"


@dataclass(frozen=True)
class Section:
    """A section of the page.

    name: its id, and the name of its template in workflow/report/sections/.
    content: gives the variables of the template, or None where there is nothing to show.
    """

    name: str
    title: str
    content: Callable[[Findings], dict[str, Any] | None]


# In the order of the page; another one is a module, a template and a line here.
SECTIONS = (
    Section("board", "Leaderboard", board.content),
    Section("run", "The run", run.content),
    Section("benchmarks", "Evaluation sets", benchmarks.content),
    Section("ablation", "Ablation", ablation.content),
    Section("examples", "Retrieval examples", examples.content),
    Section("diagnostics", "Diagnostics", diagnostics.content),
    Section("training", "Training", training.content),
    Section("tuning", "Tuning", tuning.content),
    Section("pictures", "Pictures", pictures.content),
)


def render(found: Findings) -> str:
    """Return the page: HTML that contains all its pictures, styles and scripts."""
    environment = _environment()
    style, *scripts = (
        (TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "sorting.js", "report.js")
    )
    script = "".join(scripts)
    return environment.get_template("report.html.jinja").render(
        found=found,
        **headline(found),
        sections=_rendered(environment, found),
        style=style,
        style_hash=policy_hash(style),
        script=script,
        script_hash=policy_hash(script),
    )


def _rendered(environment: jinja2.Environment, found: Findings) -> list[dict[str, Any]]:
    """Return name, title and HTML of every section that has something to show."""
    rendered = []
    for section in SECTIONS:
        content = section.content(found)
        if content is not None:
            template = environment.get_template(f"sections/{section.name}.html.jinja")
            body = template.render(found=found, **content)
            rendered.append({"name": section.name, "title": section.title, "body": body})
    return rendered


def _environment() -> jinja2.Environment:
    environment = page_templates(TEMPLATES)
    environment.globals["missing"] = pd.isna
    return environment

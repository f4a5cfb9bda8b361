"""The report of a run: one page, readable offline, made from the files that the steps wrote."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

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

TEMPLATES = Path(__file__).parents[3] / "report"


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
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    return environment.get_template("report.html.jinja").render(
        found=found,
        **headline(found),
        sections=_rendered(environment, found),
        style=style,
        style_hash=_content_hash(style),
        script=script,
        script_hash=_content_hash(script),
    )


def _rendered(environment: jinja2.Environment, found: Findings) -> list[dict[str, Any]]:
    """Return name, title and HTML of every section that has something to show."""
    rendered = []
    for section in SECTIONS:
        content = section.content(found)
        if content is not None:
            template = environment.get_template(f"sections/{section.name}.html.jinja")
            body = Markup(template.render(found=found, **content))
            rendered.append({"name": section.name, "title": section.title, "body": body})
    return rendered


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.globals["missing"] = pd.isna
    return environment


def _content_hash(text: str) -> str:
    """Return the hash with which a Content-Security-Policy allows an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

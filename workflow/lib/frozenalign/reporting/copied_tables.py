"""The board as lines of Markdown and LaTeX, to be copied: a line for each row, so that a narrowed board is one too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from frozenalign.evaluation.metrics import DIRECTIONS, RECALLS
from frozenalign.evaluation.uncertainty import RESAMPLES
from frozenalign.reporting.findings import Findings
from frozenalign.system.errors import one_line

LATEX_SIGNS = {
    **{sign: f"\\{sign}" for sign in "{}$&#_%"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "–": "--",
    "−": r"$-$",
}
MARKDOWN_SIGNS = {sign: f"\\{sign}" for sign in r"\`*_{}[]<>#|~$&"}
ARROWS = {"i2t": "I→T", "t2i": "T→I"}


@dataclass(frozen=True)
class CopiedTable:
    """A table as text: the lines above its rows, one line of each row, and the lines below; each ends its line."""

    language: str
    above: str
    rows: list[str]
    below: str


def copied_tables(found: Findings, rows: Sequence[dict[str, Any]]) -> list[CopiedTable]:
    """Return the rows in each language, with the protocol as the caption."""
    caption, cells = protocol_caption(found), [_cells(row) for row in rows]
    return [_markdown(caption, cells), _latex(caption, cells)]


def protocol_caption(found: Findings) -> str:
    """Return what a reader of the numbers has to know: data, split, gallery, seeds, intervals, choice."""
    protocol, splits = found.protocol, found.manifest["splits"]
    # Those of tuning are a sample of those of training.
    sizes = ", ".join(f"{name} {split['images']:,}" for name, split in splits.items() if name != "train_tuning")
    seeds = sorted({run.seed for run in found.heads})
    trained = "one seed" if len(seeds) == 1 else f"mean over {len(seeds)} seeds, ± their standard deviation"
    return (
        f"Image–text retrieval on {one_line(found.source.dataset)}, in percent. {protocol['split'].capitalize()} "
        f"split, gallery of {protocol['images']:,} images and {protocol['captions']:,} captions "
        f"({_captions(protocol)}), exact ranks; images of the splits: {sizes}. RSUM is the sum of the six recalls; "
        f"brackets: 95 % interval, {RESAMPLES:,} resamples of the images with their captions. "
        + (f"Heads: {trained} ({', '.join(map(str, seeds))}); " if seeds else "")
        + "everything was chosen on the validation split."
    )


def _captions(protocol: dict[str, Any]) -> str:
    return "all of each image" if protocol["captions_rule"] == "all" else f"rule {protocol['captions_rule']}"


def _cells(row: dict[str, Any]) -> list[str]:
    spread = row.get("RSUM_std")
    score = f"{row['RSUM']:.1f}" + ("" if spread is None or pd.isna(spread) else f" ± {spread:.1f}")
    interval = f"[{row['RSUM_low']:.1f}, {row['RSUM_high']:.1f}]" if "RSUM_low" in row else "–"
    recalls = [f"{row[f'{direction}_{name}']:.1f}" for direction in DIRECTIONS for name in RECALLS]
    return [row["name"], score, interval, *recalls, f"{row['parameters']:,}", f"{row['seconds']:.3g}"]


def _headings(recall: Callable[[str, str], str]) -> list[str]:
    recalls = [recall(direction, name) for direction in DIRECTIONS for name in RECALLS]
    return ["model", "RSUM", "95 % interval", *recalls, "parameters", "seconds"]


def _markdown(caption: str, rows: list[list[str]]) -> CopiedTable:
    headings = _headings(lambda direction, name: f"{ARROWS[direction]} {name}")
    rule = "| --- |" + " ---: |" * (len(headings) - 1) + "\n"
    above = f"{_escaped(caption, MARKDOWN_SIGNS)}\n\n{_pipes(headings)}{rule}"
    return CopiedTable(
        "Markdown", above, [_pipes([_escaped(cell, MARKDOWN_SIGNS) for cell in row]) for row in rows], ""
    )


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _latex(caption: str, rows: list[list[str]]) -> CopiedTable:
    headings = _headings(lambda direction, name: name)
    above = (
        "% \\usepackage{booktabs}\n"
        "\\begin{table}\n  \\centering\n"
        f"  \\caption{{{_escaped(caption, LATEX_SIGNS)}}}\n"
        "  \\label{tab:retrieval}\n  \\small\n"
        f"  \\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}\n"
        "    \\toprule\n"
        "    & & & \\multicolumn{3}{c}{image to text} & \\multicolumn{3}{c}{text to image} \\\\\n"
        "    \\cmidrule(lr){4-6} \\cmidrule(lr){7-9}\n"
        f"    {_ampersands(headings)}"
        "    \\midrule\n"
    )
    below = "    \\bottomrule\n  \\end{tabular}\n\\end{table}\n"
    return CopiedTable("LaTeX", above, [f"    {_ampersands(row)}" for row in rows], below)


def _ampersands(cells: Sequence[str]) -> str:
    # A bracket after the end of a line would be read as its argument: an interval is never the first cell.
    return f"{' & '.join(_escaped(cell, LATEX_SIGNS) for cell in cells)} \\\\\n"


def _escaped(text: str, signs: dict[str, str]) -> str:
    """Return text in one line with the signs that mean something in a language replaced."""
    return "".join(signs.get(sign, sign) for sign in one_line(text, len(text)))

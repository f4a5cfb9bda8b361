"""Numbers to copy: the protocol as the caption, a line for each row, and names that mean nothing to the language."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from frozenalign.reporting.copied_tables import copied_tables
from frozenalign.reporting.findings import Findings, ReportInput

PROTOCOL = {"split": "test", "images": 1000, "captions": 5000, "captions_rule": "all"}
SPLITS = {name: {"images": 100 * i} for i, name in enumerate(("train", "train_tuning", "val", "test"), 1)}


def row(name: str, **more) -> dict:
    recalls = {f"{direction}_R@{k}": float(k) for direction in ("i2t", "t2i") for k in (1, 5, 10)}
    return {"name": name, "RSUM": 32.0, "parameters": 12_345, "seconds": 4.567, **recalls, **more}


def copied(*rows: dict, dataset: str = "small", seeds: tuple[int, ...] = (0,), protocol: dict = PROTOCOL):
    source = ReportInput(dataset, Path(), Path(), Path(), [])
    runs = [SimpleNamespace(metrics={"protocol": protocol}, is_head=True, seed=seed) for seed in seeds]
    markdown, latex = copied_tables(Findings(source, {"splits": SPLITS}, runs, None), rows)
    return markdown, latex


def test_markdown_has_a_caption_and_as_many_cells_in_every_line():
    table, _ = copied(row("mlp", RSUM_low=30.0, RSUM_high=34.04), row("mlp, seed 1"))
    caption, gap, *lines = (table.above + "".join(table.rows) + table.below).splitlines()
    assert caption.startswith(
        "Image–text retrieval on small, in percent. Test split, gallery of 1,000 images and 5,000"
    )
    assert gap == ""
    assert {line.count("|") for line in lines} == {12}
    assert lines[2] == (r"| mlp | 32.0 | \[30.0, 34.0\] | 1.0 | 5.0 | 10.0 | 1.0 | 5.0 | 10.0 | 12,345 | 4.57 |")
    assert lines[3].startswith("| mlp, seed 1 | 32.0 | – |")


def test_latex_is_a_table_of_booktabs():
    _, table = copied(row("cross_modal", RSUM_std=1.25))
    above = table.above.splitlines()
    assert above[1] == r"\begin{table}"
    assert r"\toprule" in table.above
    assert r"\midrule" in table.above
    assert table.rows == [
        "    cross\\_modal & 32.0 $\\pm$ 1.2 & -- & 1.0 & 5.0 & 10.0 & 1.0 & 5.0 & 10.0 & 12,345 & 4.57 \\\\\n"
    ]
    columns = table.above.split(r"\begin{tabular}{")[1].split("}")[0]
    assert len(columns) == table.rows[0].count("&") + 1
    assert table.below.splitlines() == [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]


def test_the_caption_states_split_sizes_seeds_and_intervals():
    for table in copied(row("a"), seeds=(0, 1, 2)):
        for said in ("train 100, val 300, test 400", "3 seeds", "0, 1, 2", "10,000 resamples", "all of each image"):
            assert said in table.above
    assert "rule first5" in copied(row("a"), protocol=PROTOCOL | {"captions_rule": "first5"})[0].above


HOSTILE = "a|b\n\\input{/etc/passwd} $x$ & 5% #1 _ ^ ~ <script> `code` [link](x) *"


def test_no_name_means_anything_to_latex():
    _, table = copied(row(HOSTILE), dataset=HOSTILE)
    (line,) = table.rows
    name = line.split(" & 32.0")[0].strip()
    caption = table.above.split(r"\caption{")[1].split("\n")[0].removesuffix("}")
    for text in (name, caption):
        plain = re.sub(r"\\text\w+\{\}|\\[{}$&#_%]", "", text)
        assert not set(plain) & set("\\{}$&#_%^~|<>\n"), plain
    assert line.count("\n") == 1


@pytest.mark.parametrize("sign", list("|\\`*_[]<>$#~"))
def test_no_sign_of_a_name_means_anything_to_markdown(sign):
    table, _ = copied(row(f"a{sign}b\n"), dataset=f"x{sign}y")
    assert table.rows[0].startswith(f"| a\\{sign}b")
    assert table.rows[0].count("\n") == 1
    assert f"x\\{sign}y" in table.above

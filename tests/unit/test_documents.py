"""The pages name what there is: modules and functions in the architecture, files and sections behind links."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "workflow" / "lib" / "frozenalign"
WINGS = sorted(path.parent.relative_to(LIBRARY).as_posix() for path in LIBRARY.glob("*/**/__init__.py"))
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATTERNS = ("*.md", "docs/*.md", "config/*.md", "data/*.md", "results/*.md")
PAGES = sorted(path.relative_to(ROOT).as_posix() for pattern in PATTERNS for path in ROOT.glob(pattern))


def modules_of(wing: str) -> set[str]:
    return {path.stem for path in (LIBRARY / wing).glob("*.py")} - {"__init__"}


def headings(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}


def test_the_architecture_names_only_what_exists():
    named = set(re.findall(rf"`({'|'.join(WINGS)})/(\w+)\.(\w+)`", ARCHITECTURE))
    assert len(named) > 30
    for wing, module, name in sorted(named):
        assert module in modules_of(wing), f"{wing}/{module}"
        if name != "py":
            path = f"frozenalign.{wing.replace('/', '.')}.{module}"
            found = getattr(importlib.import_module(path), name, None)
            assert getattr(found, "__module__", None) == path, f"{wing}/{module}.{name}"


@pytest.mark.parametrize("wing", WINGS)
def test_the_table_of_wings_names_every_module(wing):
    row = re.search(rf"^\| `{wing}` \| [^|]+ \| ([^|]+) \|$", ARCHITECTURE, re.MULTILINE)
    assert row, f"no row for {wing}"
    assert set(re.findall(r"`(\w+)`", row[1])) == modules_of(wing)


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_somewhere(page):
    path = ROOT / page
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        file, _, section = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not section or section in headings(target), link

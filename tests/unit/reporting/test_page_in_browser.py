"""The page in Chromium: what narrows the table, what is copied, what axe-core finds. Skipped without them."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
ROOT = Path(__file__).parents[3]
AXE = Path(os.environ.get("AXE_CORE", ROOT / "node_modules" / "axe-core")) / "axe.min.js"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

# A page of this width in a frame, whose script says what it found; the frame's own policy would not let it run.
FRAME = """<!doctype html><meta charset="utf-8"><iframe src="page.html" width="{width}" height="740"></iframe>
<pre id="found"></pre><script>
addEventListener("message", (event) => document.getElementById("found").textContent = event.data);
</script>"""
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


def ran(page: Path, folder: Path, script: str, width: int = 1280, dark: bool = False) -> object:
    """Return what an asynchronous script returns at the end of the page, at a width and in a colour scheme."""
    body = f"<script>(async () => {{ {script} }})().catch((error) => String(error)).then((found) => "
    body += 'parent.postMessage(JSON.stringify(found), "*"));</script></body>'
    (folder / "page.html").write_text(POLICY.sub("", page.read_text(encoding="utf-8")).replace("</body>", body))
    (folder / "frame.html").write_text(FRAME.format(width=width))
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", scheme, f"--user-data-dir={folder / 'profile'}"]
    command += ["--virtual-time-budget=60000", "--window-size=1400,900", "--dump-dom", f"file://{folder}/frame.html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


NAMES = """
const shown = () => [...document.querySelectorAll("#board-table tbody tr:not([hidden])")];
const names = () => shown().map((row) => row.dataset.words);
const press = (name) => [...document.querySelectorAll("button")].find((each) => each.textContent === name).click();
const type = (text) => {
  document.getElementById("wanted").value = text;
  document.getElementById("wanted").dispatchEvent(new Event("input"));
};
const check = (value) => document.querySelector(`input[value="${value}"]`).click();
"""


def test_the_board_is_narrowed_sorted_and_copied_as_it_is_shown(report_folder, tmp_path):
    found = ran(
        report_folder / "index.html",
        tmp_path,
        NAMES
        + """
        let copied = "";
        Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => { copied = text; } } });
        const found = { first: names() };
        check("baseline");
        found.heads = names();
        type("line SEED");
        check("seed 0");
        found.typed = names();
        check("seed 1");
        press("image to text R@1");
        press("image to text R@1");
        found.sorted = document.querySelector("#board-table [aria-sort]").getAttribute("aria-sort");
        type("line, seed");
        found.seeds = names();
        press("Copy as Markdown");
        await new Promise((resolve) => setTimeout(resolve, 100));
        found.markdown = copied;
        found.status = document.getElementById("narrowed").textContent;
        press("Copy as LaTeX");
        await new Promise((resolve) => setTimeout(resolve, 100));
        found.latex = copied;
        press("Show all rows");
        found.all = names().length;
        found.rows = document.querySelectorAll("#board-table tbody tr").length;
        return found;
        """,
    )
    assert {"line head", "both ensemble", "cca baseline", "ridge baseline", "chance"} <= set(found["first"])
    assert not [name for name in found["first"] if "hubness" in name or "seed" in name]
    assert set(found["first"]) - set(found["heads"]) == {"cca baseline", "ridge baseline"}
    assert found["typed"] == ["line, seed 0 head"]
    assert found["sorted"] == "ascending"
    assert sorted(found["seeds"]) == ["line, seed 0 head", "line, seed 1 head"]
    rows = found["markdown"].splitlines()[4:]
    assert [re.match(r"\| ([^|]+) \|", row)[1] + " head" for row in rows] == found["seeds"]
    assert found["status"] == "2 rows copied as Markdown"
    assert found["latex"].count(" \\\\\n") == 2 + 2
    assert found["latex"].endswith("\\end{table}\n")
    assert found["all"] == found["rows"] > 10


def test_without_access_to_the_clipboard_the_text_is_selected(report_folder, tmp_path):
    found = ran(
        report_folder / "index.html",
        tmp_path,
        NAMES
        + """
        Object.defineProperty(navigator, "clipboard", { value: undefined });
        press("Copy as LaTeX");
        await new Promise((resolve) => setTimeout(resolve, 100));
        return [document.getElementById("narrowed").textContent, getSelection().toString()];
        """,
    )
    assert found[0] == "The LaTeX is selected: copy it with the keyboard"
    assert "\\begin{table}" in found[1]
    assert "hubness-corrected" not in found[1]


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_has_the_width_and_the_colours_of_its_reader(width, dark, report_folder, tmp_path):
    script = """
    const luminance = (name) => {
      const [r, g, b] = getComputedStyle(document.body)[name].match(/\\d+/g).map(Number);
      return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
    };
    return [document.documentElement.scrollWidth, innerWidth, luminance("backgroundColor"), luminance("color")];
    """
    wide, there, paper, ink = ran(report_folder / "index.html", tmp_path, script, width, dark)
    assert wide <= there == width, "nothing makes the page scroll sideways"
    assert (paper < 0.2 and ink > 0.8) if dark else (paper > 0.8 and ink < 0.2)


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not there: npm install --no-save axe-core, or set AXE_CORE")
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(width, dark, report_folder, tmp_path):
    script = f"""
    {AXE.read_text() if AXE.is_file() else ""}
    document.getElementById("everything").click();
    for (const part of document.querySelectorAll("details")) part.open = true;
    const found = await axe.run(document);
    return [found.passes.length, found.violations.map((each) => [each.id, each.nodes.map((node) => node.html)])];
    """
    passed, violations = ran(
        report_folder / "index.html", tmp_path, script.replace("</script", "<\\/script"), width, dark
    )
    assert violations == []
    assert passed > 30

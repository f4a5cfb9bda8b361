"""Names, texts and pictures with a special meaning in a shell, a template, a path, a table or a page."""

from pathlib import Path

from PIL import Image

MARK = "pwned"
NAMES = [
    "",
    " ",
    "a b",
    "it's",
    'say "so"',
    f"$(touch {MARK})",
    f"`touch {MARK}`",
    f"a; touch {MARK}",
    f"a & touch {MARK} &",
    f"a | touch {MARK}",
    f"a\ntouch {MARK}",
    "ends\n",
    "tab\there",
    "carriage\rreturn",
    "-x",
    "--help",
    ".hidden",
    ".",
    "..",
    "../up",
    "a/../b",
    "/absolute",
    "a/b",
    "a\\b",
    "{curly}",
    "{experiment}",
    "{wildcards.dataset}",
    "{input}",
    "{{double}}",
    "{",
    "<logs>",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "%s%n%d",
    "*",
    "?",
    "[ab]",
    "~",
    "~root",
    "#comment",
    "!tag",
    "&anchor",
    "@at",
    "=cmd()|' /C calc'!A0",
    "+1",
    "$x$",
    r"$\frac{$",
    "a$",
    "ü",
    "日本語",
    "\u202egnp.exe",
    "\x00",
    "\x01",
    "\x7f",
    "\ud800",
    "x" * 65,
    "x" * 5000,
    "CON",
    "nul.txt",
    "split",
    "tuning",
    "report",
    "logs",
    "benchmarks",
    "tuned-x",
    "cca",
    "null",
    "1e4",
    "2026-13-45",
]
SCRIPT = "<script>alert(1)</script>"
INJECTIONS = [
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "</style><style>@import url(http://evil.example/x.css);</style>",
    "</script><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% include 'x' %}",
    '"; rm -rf /; "',
    "&lt;b&gt; &amp; <b>",
    "<iframe src=http://evil.example></iframe>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<base href=http://evil.example/>",
    "<!-- comment",
    "]]>",
]
FILES = [
    *INJECTIONS,
    "../secret.png",
    "../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "http://evil.example/x.png",
    "data:image/svg+xml,<svg onload=alert(1)>",
    "link.png",
    "vector.svg",
    "\x00",
    "x" * 5000,
    "photo.png",
]


def write_pictures(folder: Path) -> None:
    """Write a picture, and three that must never be on a page: outside the folder, a link to that, a vector graphic."""
    folder.mkdir(parents=True)
    for path in (folder / "photo.png", folder.parent / "secret.png"):
        Image.new("RGB", (300, 200), (200, 30, 30)).save(path)
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "vector.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")

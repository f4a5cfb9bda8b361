"""Self-contained HTML pages: what they show is escaped, and only their own styles and scripts run."""

import base64
import hashlib
from pathlib import Path

import jinja2


def page_templates(folder: Path) -> jinja2.Environment:
    """Return the templates of a folder; a variable that a page does not get is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )


def policy_hash(text: str) -> str:
    """Return the hash with which a Content-Security-Policy allows an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"

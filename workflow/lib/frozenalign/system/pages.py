"""Self-contained HTML pages: what they show is escaped, and only their own styles and scripts run."""

import base64
import hashlib
import re
from pathlib import Path

import jinja2
from markupsafe import Markup, escape


def page_templates(folder: Path) -> jinja2.Environment:
    """Return the templates of a folder; a variable that a page does not get is an error.

    The filter `with_code` sets what stands between backticks as code.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["with_code"] = with_code
    return environment


def with_code(text: str) -> Markup:
    """Return text as HTML in which what stands between backticks is code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text)))


def policy_hash(text: str) -> str:
    """Return the hash with which a Content-Security-Policy allows an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"

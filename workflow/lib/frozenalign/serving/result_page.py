"""The answer to a query as one self-contained page."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frozenalign.data.picture_files import UnreadablePicture
from frozenalign.data.thumbnails import data_uri, small_version
from frozenalign.serving.gallery_items import GalleryItems
from frozenalign.system.errors import one_line
from frozenalign.system.files import read_text
from frozenalign.system.pages import page_templates, policy_hash

PAGES = Path(__file__).parents[1] / "search"
PAGE_BYTES = 1 << 20
PIXELS = 360


def result_page(answer: Mapping[str, Any], items: GalleryItems) -> str:
    """Return the page of an answer: HTML that holds its style and its pictures, and runs nothing."""
    shown, reasons = [], []
    for result in answer["results"]:
        try:
            shown.append(data_uri(items.picture(result.get("image_row", result["row"]), PIXELS), "jpeg"))
        except UnreadablePicture as unreadable:
            shown.append(None)
            reasons.append(one_line(str(unreadable)))
    style = page_file("results.css")
    return (
        page_templates(PAGES)
        .get_template("results.html.jinja")
        .render(
            answer=answer,
            title=_title(answer["query"]),
            query={"picture": _asked(answer["query"], items)},
            total=answer["gallery"][answer["find"]],
            correction=answer["hubness_correction"],
            pictures=shown,
            missing=not_shown(len(shown), reasons),
            style=style,
            style_hash=policy_hash(style),
        )
    )


def page_file(name: str) -> str:
    """Return a file of the pages."""
    return read_text(PAGES / name, PAGE_BYTES, "install the project again")


def not_shown(count: int, reasons: list[str]) -> str:
    """Return one sentence on how many of `count` pictures are not shown, and why; none is said of none."""
    if not reasons:
        return ""
    listed = "; ".join(f"{number} {reason}" for reason, number in Counter(reasons).most_common())
    return f"{len(reasons)} of {count} pictures {'is' if len(reasons) == 1 else 'are'} not shown: {listed}."


def _title(query: Mapping[str, Any]) -> str:
    if query["kind"] == "text":
        return query.get("text") or query.get("caption") or f"caption {query['row']}"
    return f"image {query['image_id']}" if "image_id" in query else Path(query["image_file"]).name


def _asked(query: Mapping[str, Any], items: GalleryItems) -> str | None:
    """Return the picture that was the query, if it is one."""
    if query["kind"] == "text":
        return None
    try:
        if "row" in query:
            return data_uri(items.picture(query["row"], PIXELS), "jpeg")
        return data_uri(small_version(Path(query["image_file"]), PIXELS), "jpeg")
    except UnreadablePicture:
        return None

"""The local page of `explore`: a small application of Flask, for one person on this machine."""

import functools
import secrets
from collections.abc import Callable
from types import ModuleType
from typing import Any

from frozenalign.data.picture_files import UnreadablePicture
from frozenalign.serving.explorer import Explorer
from frozenalign.serving.result_page import page_file
from frozenalign.system.errors import UserError
from frozenalign.system.optional_libraries import imported

INSTALL = "pip install -r envs/requirements-explore.txt"
LOOPBACK = ("127.0.0.1", "localhost")
MOST_RESULTS = 200
PIXELS = {"small": 320, "large": 1200}
HELD_PICTURES = 2000
TYPES = {"css": "text/css", "js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def explore_app(explorer: Explorer, hosts: tuple[str, ...] = LOOPBACK) -> Any:
    """Return the application.

    hosts: names that requests may call this machine; any other would be a foreign page whose name leads here.
    """
    flask = imported("flask", INSTALL)
    app = flask.Flask(__name__, static_folder=None)
    app.config["TRUSTED_HOSTS"] = list(hosts)
    app.json.sort_keys = False
    _guard(flask, app)
    _serve_files(flask, app)
    pictures = _serve_pictures(flask, app, explorer)
    _serve_answers(flask, app, explorer, pictures)
    return app


def _guard(flask: ModuleType, app: Any) -> None:
    """Let the page alone ask for what it needs, and nothing else come into it."""

    @app.before_request
    def refuse_other_sites() -> None:
        # A link may lead to the page itself.
        asked_from = flask.request.headers.get("Sec-Fetch-Site", "same-origin")
        if flask.request.path != "/" and asked_from not in ("same-origin", "none"):
            flask.abort(403)

    @app.after_request
    def add_headers(response: Any) -> Any:
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.errorhandler(UserError)
    def explain(error: UserError) -> tuple[dict[str, str], int]:
        return {"error": str(error)}, 400


def _serve_files(flask: ModuleType, app: Any) -> None:
    @app.get("/")
    def page() -> Any:
        return flask.Response(page_file("explore.html"), mimetype="text/html")

    @app.get("/explore.<any(css, js):ending>")
    def file(ending: str) -> Any:
        return flask.Response(page_file(f"explore.{ending}"), mimetype=TYPES[ending])


def _serve_pictures(flask: ModuleType, app: Any, explorer: Explorer) -> str:
    """Serve pictures by size and row, and return what their addresses begin with."""
    # Another after every start: a browser never takes a picture that it has kept for one of another gallery.
    start = f"/picture/{secrets.token_hex(8)}/"
    picture = functools.lru_cache(HELD_PICTURES)(explorer.gallery.items.picture)

    @app.get(f"{start}<any({', '.join(PIXELS)}):size>/<int:row>.jpg")
    def picture_of(size: str, row: int) -> Any:
        try:
            content = picture(row, PIXELS[size])
        except (UnreadablePicture, IndexError):
            flask.abort(404)
        return flask.Response(content, mimetype="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})

    return start


def _serve_answers(flask: ModuleType, app: Any, explorer: Explorer, pictures: str) -> None:
    """Answer in JSON what is asked for under /api/."""

    def answer(path: str, answered: Callable[..., dict[str, Any]], **parameters: type) -> None:
        """Answer a question. parameters: those that it needs, with their types."""

        def view() -> Any:
            given = {name: flask.request.args.get(name, type=kind) for name, kind in parameters.items()}
            if None in given.values() or ("head" in given and given["head"] not in explorer.heads):
                flask.abort(404)
            if "count" in given:
                given["count"] = max(1, min(given["count"], MOST_RESULTS))
            return answered(**given)

        app.add_url_rule(f"/api/{path}", path, view)

    answer("about", lambda: explorer.about() | {"pictures": pictures})
    answer("images", explorer.some_images, count=int)
    answer("text", explorer.images_of_text, head=str, text=str, count=int)
    answer("caption", explorer.images_of_caption, head=str, row=int, count=int)
    answer("image", explorer.image, head=str, row=int)
    answer("captions", explorer.captions_with, words=str, count=int)

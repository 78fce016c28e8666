"""The page: plain HTML, CSS and ES modules, served without a build step."""

from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from shared.auth.origins import origin_of

STATIC = Path(__file__).parent / "static"


def mount(app: FastAPI, upload_url: str) -> None:
    """Serve the page under `/` and its assets under `/static`.

    Args:
        app: the application of the status service.
        upload_url: address of the upload service, the only other origin that the page may connect
            to. Empty if a proxy puts both services under one origin.
    """
    headers = {
        "Content-Security-Policy": "; ".join(
            [
                "default-src 'self'",
                f"connect-src 'self' {_origin(upload_url)}",
                "img-src 'self' data:",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            ]
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }

    async def page(_: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=headers)

    app.add_route("/", page, include_in_schema=False)
    app.mount("/static", _Assets(directory=STATIC), name="static")


def _origin(url: str) -> str:
    """Return the source expression of a URL for the Content Security Policy, without its path.

    A path would allow only that exact path. CSP has no syntax for IPv6 addresses (CSP 3, 2.3.1), so
    for these the expression is the scheme alone.
    """
    origin = origin_of(url)
    return f"{urlsplit(url).scheme}:" if "[" in origin else origin


class _Assets(StaticFiles):
    """Assets that browsers revalidate, so that a new version takes effect immediately."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

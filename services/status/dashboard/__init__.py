"""The page: plain HTML, CSS and ES modules, served as they are."""

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
    """Serve the page under `/` and what it consists of under `/static`.

    Args:
        upload_url: where the page uploads to, the only other origin that it may talk to; empty if
            a proxy puts both services under one origin.
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
    """What a policy is to name: with a path in it, it would allow that path and none below.

    Policies have no form for IPv6 addresses (CSP 3, 2.3.1), so the scheme alone is named for one.
    """
    origin = origin_of(url)
    return f"{urlsplit(url).scheme}:" if "[" in origin else origin


class _Assets(StaticFiles):
    """Files that a browser asks for again, so that a new version is seen at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

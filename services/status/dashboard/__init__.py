"""The page: plain HTML, CSS and ES modules, served as they are."""

from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parent / "static"


def mount(app: FastAPI, upload_url: str) -> None:
    """Serve the page under `/` and what it consists of under `/static`.

    Args:
        upload_url: the only other origin that the page may talk to.
    """
    headers = {
        "Content-Security-Policy": "; ".join(
            [
                "default-src 'self'",
                f"connect-src 'self' {upload_url}",
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


class _Assets(StaticFiles):
    """Files that a browser asks for again, so that a new version is seen at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

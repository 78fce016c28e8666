"""The short way for uploads: past the framework's routing, to what the route calls as well.

Routing, exit stacks and the search for parameters took half of the processor time that Python
spends on a small upload. The route stands all the same, for the API's description and for other
methods.
"""

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from services.upload import api
from shared import problems
from shared.auth import authenticated
from shared.errors import WaybillError


class StraightUpload:
    """ASGI middleware that answers `POST /api/files/upload` itself, unless a page of another origin
    asks: those have headers of their own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_upload(scope):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await api.take(request, await api.uploader(await authenticated(request)))
        except WaybillError as error:
            response = problems.answer_error(request, error)
        except ClientDisconnect:
            response = problems.answer_nobody(request)
        await response(scope, receive, send)


def _is_upload(scope: Scope) -> bool:
    return (
        scope["type"] == "http"
        and scope["path"] == api.UPLOAD
        and scope["method"] == "POST"
        and not any(name == b"origin" for name, _ in scope["headers"])
    )

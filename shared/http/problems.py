"""Rendering of errors as problem documents (RFC 9457)."""

import logging
from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from shared.errors import BadParameterError, WaybillError

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"

CLIENT_CLOSED_REQUEST = 499
"""Status for logs only, because the client is gone. nginx introduced the number."""


class Problem(BaseModel):
    """A problem document. `code` is stable, and clients may branch on it."""

    type: str = Field(examples=["urn:waybill:problem:too_large"])
    title: str = Field(examples=["The file is larger than this service accepts."])
    status: int = Field(examples=[413])
    code: str = Field(examples=["too_large"])
    detail: str
    instance: str = Field(examples=["/api/files/upload"])


def problem_response(error: WaybillError, *, instance: str) -> JSONResponse:
    """Return the response for an error."""
    problem = Problem(
        type=f"urn:waybill:problem:{error.code}",
        title=error.title,
        status=error.status,
        code=error.code,
        detail=error.public_detail,
        instance=instance,
    )
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.challenge is not None:
        headers["WWW-Authenticate"] = error.challenge
    return JSONResponse(
        problem.model_dump() | error.members,
        error.status,
        headers=headers,
        media_type=PROBLEM_JSON,
    )


def answer_error(request: Request, error: WaybillError) -> JSONResponse:
    """Return the response for an error, and log errors of the server (status 500 and above)."""
    if error.status >= 500:
        log.error("%s %s: %s (%r)", request.method, request.url.path, error, error.__cause__)
    return problem_response(error, instance=request.url.path)


def answer_nobody(request: Request) -> Response:
    """Return the response for a request whose client has disconnected."""
    log.info("%s %s: the client disconnected", request.method, request.url.path)
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def answer_bug(request: Request, error: Exception) -> JSONResponse:
    """Log an unexpected error with its traceback, and return the response for it."""
    log.error("%s %s", request.method, request.url.path, exc_info=error)
    return problem_response(
        WaybillError("An unexpected error occurred; see the service's log.", public=True),
        instance=request.url.path,
    )


def install(app: FastAPI) -> None:
    """Register handlers that answer every error of `app` with a problem document."""

    @app.exception_handler(WaybillError)
    async def on_waybill_error(request: Request, error: WaybillError) -> JSONResponse:
        return answer_error(request, error)

    @app.exception_handler(ClientDisconnect)
    async def on_client_gone(request: Request, _: ClientDisconnect) -> Response:
        return answer_nobody(request)

    @app.exception_handler(RequestValidationError)
    async def on_bad_parameter(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
        )
        return problem_response(BadParameterError(faults), instance=request.url.path)

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
        problem = Problem(
            type="about:blank",
            title=str(error.detail),
            status=error.status_code,
            code="http_" + str(error.status_code),
            detail=f"{request.method} {request.url.path}: {error.detail}",
            instance=request.url.path,
        )
        return JSONResponse(
            problem.model_dump(),
            error.status_code,
            headers=_with_head(error.headers or {}),
            media_type=PROBLEM_JSON,
        )

    @app.exception_handler(Exception)
    async def on_bug(request: Request, error: Exception) -> JSONResponse:
        return answer_bug(request, error)


def _with_head(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of an error response, with HEAD added to `Allow`; see `HeadAsGet`."""
    return {
        name: "GET, HEAD".join(value.split("GET"))
        if name.lower() == "allow" and "HEAD" not in value
        else value
        for name, value in headers.items()
    }


ERROR_RESPONSES: dict[int | str, dict[str, object]] = {
    "default": {
        "description": "A problem document (RFC 9457).",
        "content": {PROBLEM_JSON: {"schema": Problem.model_json_schema()}},
    }
}
"""Value for FastAPI's `responses=`: every endpoint may answer with a problem document."""

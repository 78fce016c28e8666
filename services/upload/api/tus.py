"""`/api/uploads`: resumable uploads with the tus 1.0.0 protocol.

Supported extensions: creation, creation-with-upload, termination, checksum, expiration and
concatenation.
"""

import base64
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, cast

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from services.upload.api.uploads import AppState, Uploader
from services.upload.cleanup.sweep import UPLOAD_TTL
from services.upload.intake.batch import ALLOW_EMPTY
from services.upload.resumable.appending import ALGORITHMS, Checksum, Incoming
from services.upload.resumable.concatenation import Concat
from services.upload.resumable.resumable import Upload
from shared.auth.accesserrors import ForbiddenError
from shared.auth.principal import Principal
from shared.errors import (
    BadParameterError,
    ForbiddenTypeError,
    OffsetConflictError,
    TusVersionError,
    WaybillError,
)
from shared.events.ids import CanonicalId
from shared.http import problems
from shared.http.problems import ERROR_RESPONSES

VERSION = "1.0.0"
PATH = "/api/uploads"
CONTENT_TYPE = "application/offset+octet-stream"
EXTENSIONS = (
    *("creation", "creation-with-upload", "termination", "checksum", "expiration"),
    "concatenation",
)
MAX_METADATA = 8192
"""Characters of `Upload-Metadata`: enough for sixteen labels and the longest name."""

SCHEMAS: dict[str, dict[str, Any]] = {
    "Tus_Resumable": {"type": "string", "enum": [VERSION]},
    "Upload_Length": {"type": "integer", "minimum": 1},
    "Upload_Offset": {"type": "integer", "minimum": 0},
}
"""OpenAPI schemas of headers that are not plain strings."""

REQUIRED = {"Tus_Resumable", "Upload_Offset"}
"""Headers that are required wherever they are used."""

ANSWER_HEADERS = [
    *("Location", "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size"),
    *("Tus-Checksum-Algorithm", "Upload-Offset", "Upload-Length", "Upload-Metadata"),
    *("Upload-Expires", "Upload-Concat"),
]
"""Response headers that a page of another origin must be able to read."""


class _TusRoute(APIRoute):
    """Require `Tus-Resumable` in each request and send it in each response, errors included."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_tus(request: Request) -> Response:
            try:
                if request.method != "OPTIONS" and request.headers.get("tus-resumable") != VERSION:
                    raise TusVersionError
                response = await handle(request)
            except WaybillError as error:
                response = problems.answer_error(request, error)
                response.headers["Tus-Version"] = VERSION
            response.headers["Tus-Resumable"] = VERSION
            response.headers["Cache-Control"] = "no-store"
            return response

        return handle_tus


def _headers(**described: str) -> dict[str, Any]:
    """Describe request headers for FastAPI's `openapi_extra`; underscores stand for hyphens."""
    described = {"Tus_Resumable": f"`{VERSION}`", **described}
    return {
        "parameters": [
            {
                "name": name.replace("_", "-"),
                "in": "header",
                "required": name in REQUIRED,
                "description": description,
                "schema": SCHEMAS.get(name, {"type": "string"}),
            }
            for name, description in described.items()
        ]
    }


_BYTES = {
    "requestBody": {"content": {CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
}

router = APIRouter(prefix=PATH, tags=["resumable upload"], route_class=_TusRoute)


def _state(request: Request) -> AppState:
    return cast("AppState", request.scope["state"])


@router.options("", status_code=204, responses=ERROR_RESPONSES)
async def describe(request: Request) -> Response:
    """Return the tus version, extensions and limits of this service. Needs no credential."""
    return Response(
        status_code=204,
        headers={
            "Tus-Version": VERSION,
            "Tus-Extension": ",".join(EXTENSIONS),
            "Tus-Max-Size": str(_state(request)["settings"].max_file_size),
            "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
        },
    )


@router.post(
    "",
    status_code=201,
    response_class=Response,
    responses=ERROR_RESPONSES,
    openapi_extra=_headers(
        Upload_Length="Bytes of the file. Required except for a final upload.",
        Upload_Metadata="Comma-separated pairs of a name and a base64 value.",
        Upload_Checksum="Checksum of the bytes in this request: algorithm, space, base64 digest.",
        Upload_Concat="`partial`, or `final;` and space-separated URLs of partial uploads.",
    )
    | _BYTES,
)
async def create(request: Request, asker: Uploader) -> Response:
    """Create an upload of `Upload-Length` bytes; the request can carry the first of them.

    `Upload-Metadata` contains `filename`, `filetype` and labels, named `label.<key>`. The last
    segment of `Location` is the future `file_id`. Partial uploads do not become files. A `final;`
    upload concatenates them, has no `Upload-Length`, and is accepted before the response is sent.
    """
    metadata = parse_metadata(request.headers.get("upload-metadata", ""))
    concat = _concat(request)
    if concat is not None and not concat.is_partial:
        return await _concatenate(request, concat, metadata, asker)
    length = _number(request, "upload-length")
    resumable = _state(request)["resumable"]
    if allow_empty := request.query_params.get(ALLOW_EMPTY):
        metadata |= {ALLOW_EMPTY: allow_empty}
    upload_id = await resumable.create(length, metadata, asker, concat=concat)
    if length == 0:  # No bytes will follow.
        async with resumable.hold(upload_id, asker) as (upload, _):
            await resumable.complete(upload)
    headers = {"Location": f"{PATH}/{upload_id}"}
    if request.headers.get("content-type") == CONTENT_TYPE:
        headers |= await _append(request, upload_id, asker, offset=0)
    else:
        headers |= _expiry()
    return Response(status_code=201, headers=headers)


@router.head("/{upload_id}", status_code=200, responses=ERROR_RESPONSES, openapi_extra=_headers())
async def look(request: Request, upload_id: CanonicalId, asker: Uploader) -> Response:
    """Return the offset of an upload. A complete upload is accepted before the response is sent."""
    resumable = _state(request)["resumable"]
    async with resumable.hold(upload_id, asker) as (upload, _):
        if upload.offset == upload.info.length:
            await resumable.complete(upload)
    metadata = format_metadata(upload.info.metadata)
    headers = {"Upload-Length": str(upload.info.length), "Upload-Metadata": metadata}
    if upload.info.concat is not None:
        headers["Upload-Concat"] = upload.info.concat.header
    return Response(headers=headers | _progress(upload))


@router.patch(
    "/{upload_id}",
    status_code=204,
    responses=ERROR_RESPONSES,
    openapi_extra=_headers(
        Upload_Offset="Offset of the first byte; must equal the upload's current offset.",
        Upload_Checksum="Checksum of these bytes: algorithm, space, base64 digest.",
    )
    | _BYTES,
)
async def append(request: Request, upload_id: CanonicalId, asker: Uploader) -> Response:
    """Append bytes to an upload at `Upload-Offset`.

    The request with the last bytes is answered once the file is accepted: it is stored, and its
    event is in Kafka or the outbox.
    """
    if request.headers.get("content-type") != CONTENT_TYPE:
        raise ForbiddenTypeError(
            f"The Content-Type is not {CONTENT_TYPE}; send the bytes with that type."
        )
    offset = _number(request, "upload-offset")
    return Response(
        status_code=204, headers=await _append(request, upload_id, asker, offset=offset)
    )


@router.delete("/{upload_id}", status_code=204, responses=ERROR_RESPONSES, openapi_extra=_headers())
async def terminate(request: Request, upload_id: CanonicalId, asker: Uploader) -> Response:
    """Delete an upload. A file that was already accepted is kept."""
    resumable = _state(request)["resumable"]
    async with resumable.hold(upload_id, asker) as (upload, _):
        await resumable.terminate(upload)
    return Response(status_code=204)


@router.post(
    "/{upload_id}",
    status_code=204,
    responses=ERROR_RESPONSES,
    openapi_extra=_headers(X_HTTP_Method_Override="`PATCH`, `DELETE` or `HEAD`."),
)
async def override(request: Request, upload_id: CanonicalId, asker: Uploader) -> Response:
    """Run the method in `X-HTTP-Method-Override`, for clients behind proxies that block `PATCH`."""
    methods = {"PATCH": append, "DELETE": terminate, "HEAD": look}
    wanted = request.headers.get("x-http-method-override", "")
    if wanted not in methods:
        raise BadParameterError("X-HTTP-Method-Override must be PATCH, DELETE or HEAD.")
    return await methods[wanted](request, upload_id, asker)


async def _append(
    request: Request, upload_id: str, asker: Principal, *, offset: int
) -> dict[str, str]:
    state = _state(request)
    header = request.headers.get("upload-checksum")
    checksum = None if header is None else Checksum.parse(header)
    body = state["admission"].body_of(request)
    with state["admission"].admitted(asker, announced=body.announced or 0) as used:
        async with state["resumable"].hold(upload_id, asker) as (before, asked_to_end):
            if before.info.concat is not None and not before.info.concat.is_partial:
                raise ForbiddenError(
                    "A final upload accepts no bytes; append to its partial uploads."
                )
            if offset != before.offset:
                raise OffsetConflictError(
                    f"The upload is at offset {before.offset}, not {offset}; resume from there."
                )
            incoming = Incoming(
                body.bytes().read,
                left=before.info.length - offset,
                checksum=checksum,
                asked_to_end=asked_to_end,
            )
            upload = await state["resumable"].append(before, incoming)
            used.append(upload.offset - offset)
            if incoming.broken is not None:
                raise incoming.broken
            if upload.offset == upload.info.length:
                await state["resumable"].complete(upload)
    return _progress(upload)


async def _concatenate(
    request: Request, concat: Concat, metadata: dict[str, str], asker: Principal
) -> Response:
    """Concatenate partial uploads into a file. Their bytes already count against the quota."""
    state = _state(request)
    resumable = state["resumable"]
    with state["admission"].admitted(asker, announced=0):
        upload_id = await resumable.concatenate(concat, metadata, asker)
        async with resumable.hold(upload_id, asker) as (upload, _):
            if upload.offset < upload.info.length:
                raise OffsetConflictError(
                    "Another request used or deleted the partial uploads; upload them again."
                )
            await resumable.complete(upload)
    return Response(status_code=201, headers={"Location": f"{PATH}/{upload_id}", **_expiry()})


def _concat(request: Request) -> Concat | None:
    header = request.headers.get("upload-concat")
    return None if header is None else Concat.parse(header)


def _progress(upload: Upload) -> dict[str, str]:
    return {"Upload-Offset": str(upload.offset), **_expiry()}


def _expiry() -> dict[str, str]:
    return {"Upload-Expires": format_datetime(datetime.now(UTC) + UPLOAD_TTL, usegmt=True)}


def _number(request: Request, header: str) -> int:
    value = request.headers.get(header, "")
    if not (value.isascii() and value.isdecimal() and len(value) < 20):
        raise BadParameterError(
            f"The header {header.title()} is {value[:80]!r}; it must be a number of bytes."
        )
    return int(value)


def parse_metadata(header: str) -> dict[str, str]:
    """Parse `Upload-Metadata`: comma-separated pairs of a name and a base64 value.

    Raises:
        BadParameterError: The header is malformed or longer than `MAX_METADATA`.
    """
    if len(header) > MAX_METADATA:
        raise BadParameterError(
            f"Upload-Metadata has {len(header)} characters; the limit is {MAX_METADATA}."
        )
    metadata = {}
    for pair in filter(None, (each.strip() for each in header.split(","))):
        name, _, encoded = pair.partition(" ")
        if name in metadata:
            raise BadParameterError(
                f"Upload-Metadata contains {name[:80]!r} twice; send each name once."
            )
        try:
            metadata[name] = base64.b64decode(encoded, validate=True).decode(errors="replace")
        except ValueError as error:
            raise BadParameterError(
                f"The value of {name[:80]!r} in Upload-Metadata is not base64; encode it."
            ) from error
    return metadata


def format_metadata(metadata: dict[str, str]) -> str:
    """Format metadata as an `Upload-Metadata` header."""
    return ",".join(
        f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in metadata.items()
    )

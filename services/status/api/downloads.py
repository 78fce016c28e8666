"""Downloads of stored content: complete, partial, or 304 if the client's copy is current."""

import hashlib
import re
from datetime import UTC, datetime
from email.utils import format_datetime

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from services.status.api.disposition import attachment
from services.status.api.ranges import Validators, is_unmodified, requested_range
from shared.blobs.bloberrors import BlobMissingError
from shared.blobs.blobinfo import BlobInfo
from shared.blobs.blobs import BlobStore
from shared.errors import RangeNotSatisfiableError, UnknownArtifactError
from shared.events.events import utc_now
from shared.events.storable import sendable_media_type
from shared.http.head_method import is_head
from shared.http.problems import problem_response

CONDITIONS = (
    *("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"),
    *("range", "if-range"),
)
"""Request headers that are evaluated. Repeated headers are joined."""

HEADERS = {
    "Accept-Ranges": "bytes",
    # Clients may cache a copy but must revalidate it: the file may be deleted or no longer shared.
    "Cache-Control": "private, no-cache",
    # Stored content is untrusted: a browser must neither guess its type nor run it.
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}


_SHA256 = re.compile("[0-9a-f]{64}")


async def download(
    request: Request,
    blobs: BlobStore,
    *,
    key: str,
    name: str,
    content_type: str,
    sha256: str | None = None,
    modified: datetime | None = None,
) -> Response:
    """Return a stored blob, or the part that the request asks for.

    Args:
        key: its key in the blob store.
        name: the suggested file name, as the user gave it.
        content_type: the media type; an invalid header value is replaced by a generic one.
        sha256: of the content, in hexadecimal digits, if it is known.
        modified: when the content was created; by default, when it was stored.

    Raises:
        UnknownArtifactError: the blob does not exist any more.
        PreconditionFailedError: `If-Match` or `If-Unmodified-Since` does not match the content.
    """
    conditions = {name: ",".join(request.headers.getlist(name)) for name in CONDITIONS}
    conditions = {name: value for name, value in conditions.items() if value}
    try:
        info = await blobs.info(key)
        made = (modified or info.at).astimezone(UTC)  # Drivers use various time zones.
        known = Validators(_etag(key, info, sha256), made)
        headers = {"ETag": known.etag, "Last-Modified": format_datetime(made, usegmt=True)}
        headers |= HEADERS
        if is_unmodified(conditions, known):
            return Response(status_code=304, headers=headers)
        part = None
        if not is_head(request.scope):  # HEAD ignores ranges (RFC 9110, 14.2).
            try:
                part = requested_range(conditions, known, size=info.size, now=utc_now())
            except RangeNotSatisfiableError as error:
                refusal = problem_response(error, instance=request.url.path)
                refusal.headers.update({"Content-Range": f"bytes */{info.size}", **HEADERS})
                return refusal
        headers |= {
            "Content-Type": sendable_media_type(content_type),
            "Content-Disposition": attachment(name),
        }
        start, end = (part.start, part.end) if part else (0, info.size)
        headers["Content-Length"] = str(end - start)
        if is_head(request.scope):
            return Response(headers=headers)
        if part:
            headers["Content-Range"] = part.content_range(info.size)
        content = await blobs.stream(key, start=start, end=end)
        return StreamingResponse(content, 206 if part else 200, headers=headers)
    except BlobMissingError as error:
        raise UnknownArtifactError(f"The blob store no longer has {name!r}.") from error


def _etag(key: str, info: BlobInfo, sha256: str | None) -> str:
    """Return a strong entity tag of the content, or of this stored copy if its hash is unknown."""
    if sha256 is None or not _SHA256.fullmatch(sha256):
        sha256 = hashlib.sha256(f"{key}\0{info.tag}\0{info.size}".encode()).hexdigest()
    return f'"{sha256}"'

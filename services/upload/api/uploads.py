"""`POST /api/files/upload`: the endpoint and its responses."""

from typing import Annotated, Any, TypedDict, cast

import orjson
from fastapi import APIRouter, Depends, Header, Request, Response

from services.upload.api.openapi import (
    ACCEPTED_RESPONSE,
    KNOWN_RESPONSE,
    PARAMETERS,
    REQUEST_BODY,
    AcceptedBatch,
    AcceptedFile,
)
from services.upload.direct_uploads import DirectUploads
from services.upload.intake.accepted import Accepted, StoredFile
from services.upload.intake.admission import UploadAdmission
from services.upload.intake.batch import problem_documents
from services.upload.intake.idempotency import read_key
from services.upload.resumable.resumable import Resumable
from services.upload.settings import UploadSettings
from shared.auth.auth import Asker, Authenticator
from shared.auth.principal import Principal, Scope
from shared.http.cors import CorsPolicy
from shared.http.outbound import Outbound
from shared.http.problems import ERROR_RESPONSES

RETRY_AFTER = "1"
"""Seconds to wait before the first status request, for `Retry-After`."""

REPLAYED = "Idempotent-Replayed"
"""Header of a response that repeats the one to an earlier request with the same key."""


class AppState(TypedDict):
    """State that the lifespan makes available to requests."""

    authenticator: Authenticator
    settings: UploadSettings
    admission: UploadAdmission
    resumable: Resumable
    direct_uploads: DirectUploads
    outbound: Outbound
    status_url: str
    cors: CorsPolicy


router = APIRouter(tags=["upload"])

UPLOAD = "/api/files/upload"


async def uploader(asker: Asker) -> Principal:
    """Return the authenticated caller.

    Raises:
        ForbiddenError: The credential does not have the scope to upload.
    """
    asker.require(Scope.UPLOAD)
    return asker


async def checked_key(idempotency_key: Annotated[str | None, Header()] = None) -> None:
    """Validate the Idempotency-Key before the body is read.

    Raises:
        BadIdempotencyKeyError: The key is malformed.
    """
    read_key(idempotency_key)


Uploader = Annotated[Principal, Depends(uploader)]


@router.post(
    UPLOAD,
    status_code=202,
    response_model=AcceptedFile | AcceptedBatch,
    responses={200: KNOWN_RESPONSE, 202: ACCEPTED_RESPONSE, **ERROR_RESPONSES},
    openapi_extra={"requestBody": REQUEST_BODY, "parameters": PARAMETERS},
)
async def upload(request: Request, asker: Uploader) -> Response:
    """Upload one or several files.

    The answer 202 means that every file is stored. Its event is in Kafka, or in the blob store
    until Kafka is available: no accepted file is lost. Rejected files are listed under `refused`,
    next to the accepted ones. With `atomic=true`, all files of a request are accepted or none.
    With `allow_empty=true`, files without content are accepted. A repeat with the same
    `Idempotency-Key` creates no new files. Labels are form fields named `label.<key>`, or query
    parameters for a raw body. With `deduplicate=true`, and if `WAYBILL_DEDUPLICATE` allows it, the
    answer contains the owner's earlier file of equal content and type, marked `deduplicated`.
    """
    return await take(request, asker)


async def take(request: Request, asker: Principal) -> Response:
    """Accept the files of a request and return where to follow them."""
    state = cast("AppState", request.scope["state"])
    accepted = await state["admission"].take(request, asker)
    return answer(accepted, state["status_url"])


def answer(accepted: Accepted, status_service: str) -> Response:
    """Build the response: 202, or 200 if every file is a duplicate of an earlier one."""
    files = [_describe(file, status_service) for file in accepted.files]
    is_new = not all(file.deduplicated for file in accepted.files)
    if accepted.batch_id is None:
        content, location = files[0], files[0]["status_url"]
    else:
        content = {
            "batch_id": accepted.batch_id,
            "status": "pending",
            "files": files,
            "refused": problem_documents(accepted.refused),
        }
        location = f"{status_service}/api/files?batch_id={accepted.batch_id}"
    headers = {"Location": location, "Retry-After": RETRY_AFTER}
    if accepted.replayed:
        headers[REPLAYED] = "true"
    return Response(
        orjson.dumps(content),
        202 if is_new else 200,
        headers=headers,
        media_type="application/json",
    )


def _describe(file: StoredFile, status_service: str) -> dict[str, Any]:
    # The upload service does not know the status of an earlier file.
    state = {"deduplicated": True} if file.deduplicated else {"status": "pending"}
    return {
        "file_id": file.file_id,
        **state,
        "name": file.name,
        "size": file.size,
        "content_type": file.content_type,
        "sha256": file.sha256,
        "status_url": f"{status_service}/api/files/{file.file_id}/process/status",
    }

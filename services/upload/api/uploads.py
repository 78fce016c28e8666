"""`POST /api/files/upload`: what it takes and what it answers."""

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
from services.upload.intake.batch import described
from services.upload.intake.idempotency import read_key
from services.upload.resumable.resumable import Resumable
from services.upload.settings import UploadSettings
from shared.auth.auth import Asker, Authenticator
from shared.auth.principal import Principal, Scope
from shared.http.cors import CorsPolicy
from shared.http.outbound import Outbound
from shared.http.problems import ERROR_RESPONSES

RETRY_AFTER = "1"
"""Seconds after which a first look at the status is worth while."""

REPLAYED = "Idempotent-Replayed"
"""The header that says that an earlier request with the same `Idempotency-Key` was answered so."""


class AppState(TypedDict):
    """What the lifespan hands to the requests."""

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
    """Who asks, if they may upload.

    Raises:
        ForbiddenError: the credential is not for that.
    """
    asker.require(Scope.UPLOAD)
    return asker


async def checked_key(idempotency_key: Annotated[str | None, Header()] = None) -> None:
    """Check the Idempotency-Key before the body is read.

    Raises:
        BadIdempotencyKeyError: it cannot be used.
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
    """Hand over one or several files.

    The answer 202 means that each file is stored and its event is in Kafka, or waits in the blob
    store until Kafka answers: nothing accepted is lost. A file that is not acceptable is told of
    under `refused`, beside those that are; with `atomic=true` all files of a request are accepted
    or none. With `allow_empty=true` files without content are accepted. Sent again with the same
    `Idempotency-Key`, they stay the same files. Labels are form fields, or for a raw body query
    parameters, named `label.<key>`. With `deduplicate=true`, where `WAYBILL_DEDUPLICATE` allows it,
    the answer has the earlier file of the same owner, content and type if there is one, marked
    `deduplicated`.
    """
    return await take(request, asker)


async def take(request: Request, asker: Principal) -> Response:
    """Take the files of a request in from who may upload, and tell where to follow them."""
    state = cast("AppState", request.scope["state"])
    accepted = await state["admission"].take(request, asker)
    return answer(accepted, state["status_url"])


def answer(accepted: Accepted, status_service: str) -> Response:
    """The waybill of each file: 202, or 200 if all of them were there already."""
    files = [_describe(file, status_service) for file in accepted.files]
    is_new = not all(file.deduplicated for file in accepted.files)
    if accepted.batch_id is None:
        content, location = files[0], files[0]["status_url"]
    else:
        content = {
            "batch_id": accepted.batch_id,
            "status": "pending",
            "files": files,
            "refused": described(accepted.refused),
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
    # What became of an earlier file meanwhile, this service does not know.
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

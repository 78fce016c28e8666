"""`/api/files/upload/direct`: clients upload straight to the object store with a signed URL."""

from datetime import UTC, datetime
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.upload.api import uploads as api
from services.upload.api.openapi import ACCEPTED_RESPONSE, EXAMPLE_ID, AcceptedFile
from services.upload.body.body import declared_type
from services.upload.body.labels import PREFIX, read_labels
from services.upload.body.names import charset, clean_name
from services.upload.direct_uploads import URL_TTL, DirectUploadRequest, DirectUploads
from services.upload.intake.accepted import Accepted
from services.upload.intake.idempotency import read_key
from shared.events.ids import CanonicalId
from shared.http.head_first import HeadFirstRoute
from shared.http.problems import ERROR_RESPONSES

router = APIRouter(
    prefix=f"{api.UPLOAD}/direct", tags=["direct upload"], route_class=HeadFirstRoute
)


class DirectRequest(BaseModel):
    """The description of a file, sent before its content."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=1000, examples=["report.pdf"])
    size: int = Field(ge=0, description="bytes", examples=[48213])
    content_type: str | None = Field(default=None, max_length=255)
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the file. If given, a file with another hash is not processed.",
    )
    labels: dict[str, str] = Field(default={})
    allow_empty: bool = Field(default=False, description="Accept a file without content.")


class DirectUpload(BaseModel):
    """A signed URL to upload one file to."""

    file_id: str = Field(examples=[EXAMPLE_ID])
    method: Literal["PUT"] = "PUT"
    url: str = Field(description="signed URL; anyone who has it can upload the file")
    expires_at: AwareDatetime = Field(description="time until which the PUT may begin")
    complete_url: str = Field(
        description="path to POST to after the PUT",
        examples=[f"{api.UPLOAD}/direct/{EXAMPLE_ID}/complete"],
    )


def _state(request: Request) -> api.AppState:
    return cast("api.AppState", request.scope["state"])


def _direct_uploads(request: Request) -> DirectUploads:
    return _state(request)["direct_uploads"]


async def direct_enabled(request: Request) -> None:
    """Check that direct uploads are enabled.

    Raises:
        DirectOffError: Direct uploads are disabled, or the blob store does not speak S3.
    """
    _ = _direct_uploads(request).signer


@router.post(
    "",
    status_code=201,
    responses=ERROR_RESPONSES,
    dependencies=[Depends(api.uploader), Depends(direct_enabled), Depends(api.checked_key)],
)
async def begin(
    asked: DirectRequest,
    request: Request,
    response: Response,
    asker: api.Uploader,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> DirectUpload:
    """Create a direct upload and return a signed URL in the object store.

    `PUT` the bytes to `url` without a Waybill credential, then `POST` to `complete_url`. A repeat
    with the same `Idempotency-Key` within a day returns the same file with a fresh URL. Uploads
    that are not completed within a day are removed. Requires an S3-compatible blob store and
    `WAYBILL_DIRECT`.
    """
    direct_uploads = _direct_uploads(request)
    wanted = DirectUploadRequest(
        name=clean_name(asked.name),
        size=asked.size,
        declared_type=declared_type(asked.content_type),
        declared_charset=charset(asked.content_type),
        sha256=asked.sha256,
        labels=read_labels((PREFIX + name, value) for name, value in asked.labels.items()),
        allow_empty=asked.allow_empty,
    )
    _state(request)["admission"].check_allowance(asker, announced=asked.size)
    direct_upload, url = await direct_uploads.begin(wanted, asker, key=read_key(idempotency_key))
    if direct_upload.is_repeated:
        response.headers[api.REPLAYED] = "true"
    return DirectUpload(
        file_id=direct_upload.id,
        url=url,
        expires_at=datetime.now(UTC) + URL_TTL,
        complete_url=f"{router.prefix}/{direct_upload.id}/complete",
    )


@router.post(
    "/{upload_id}/complete",
    status_code=202,
    response_model=AcceptedFile,
    responses={202: ACCEPTED_RESPONSE, **ERROR_RESPONSES},
)
async def complete(request: Request, upload_id: CanonicalId, asker: api.Uploader) -> Response:
    """Complete a direct upload after its `PUT`.

    The answer 202 means the same as for `POST /api/files/upload`. A repeat returns the same answer.
    """
    state, direct_uploads = _state(request), _direct_uploads(request)
    direct_upload = await direct_uploads.find(upload_id, asker)
    if (file := direct_upload.file) is None:
        with state["admission"].admitted(asker, announced=direct_upload.asked.size) as used:
            file = await direct_uploads.complete(direct_upload, asker)
            used.append(file.size)
    accepted = Accepted(files=[file], labels=direct_upload.asked.labels, batch_id=None)
    return api.answer(accepted, state["status_url"])


@router.delete("/{upload_id}", status_code=204, responses=ERROR_RESPONSES)
async def abandon(request: Request, upload_id: CanonicalId, asker: api.Uploader) -> Response:
    """Discard a direct upload. A file that was already accepted is kept."""
    direct_uploads = _direct_uploads(request)
    await direct_uploads.abandon(await direct_uploads.find(upload_id, asker), asker)
    return Response(status_code=204)

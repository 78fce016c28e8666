"""`POST /api/files/upload/from-url`: fetch a file from a URL and accept it."""

from collections.abc import AsyncIterator
from typing import Annotated, cast
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from services.upload.api import uploads as api
from services.upload.api.openapi import ACCEPTED_RESPONSE, KNOWN_RESPONSE, AcceptedFile
from services.upload.body.body import IncomingFile, declared_type
from services.upload.body.labels import PREFIX, read_labels
from services.upload.body.names import UNNAMED, charset, clean_name
from services.upload.intake.batch import ALLOW_EMPTY
from services.upload.intake.duplicates import FIELD
from shared.errors import FetchFailedError, FetchingOffError
from shared.http.head_first import HeadFirstRoute
from shared.http.outbound import Answer, OutboundError
from shared.http.problems import ERROR_RESPONSES

router = APIRouter(tags=["upload"], route_class=HeadFirstRoute)

HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "Waybill"}

OK = 200


class FetchRequest(BaseModel):
    """The URL of a file, and its options."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=2000, examples=["https://files.example/report.pdf"])
    name: str | None = Field(
        default=None, max_length=1000, description="Defaults to the last segment of the URL's path."
    )
    labels: dict[str, str] = Field(default={})
    deduplicate: bool | None = Field(
        default=None, description="Return the earlier file if one has the same content."
    )
    allow_empty: bool = Field(default=False, description="Accept a file without content.")


class FetchedBody:
    """Present the response of the remote server as a request body with one file."""

    def __init__(self, answer: Answer, asked: FetchRequest, key: str | None) -> None:
        self._answer = answer
        self._name = asked.name or unquote(urlsplit(answer.url).path.rpartition("/")[2]) or UNNAMED
        self.idempotency_key = key
        self.fields = [(PREFIX + name, value) for name, value in asked.labels.items()]
        if asked.deduplicate is not None:
            self.fields.append((FIELD, str(asked.deduplicate).lower()))
        if asked.allow_empty:
            self.fields.append((ALLOW_EMPTY, "true"))

    @property
    def announced(self) -> int | None:
        """Bytes that the response announces in `Content-Length`; None if it does not."""
        length = self._answer.headers.get("content-length", "")
        return int(length) if length.isdecimal() else None

    async def files(self) -> AsyncIterator[IncomingFile]:
        """Yield the file."""
        yield IncomingFile(
            name=clean_name(self._name),
            declared_type=declared_type(self._answer.headers.get("content-type")),
            declared_charset=charset(self._answer.headers.get("content-type")),
            read=self._read,
        )

    async def _read(self) -> bytes:
        try:
            return await self._answer.read()
        except OutboundError as error:
            raise FetchFailedError(
                f"The download ended before the file was complete: {error.detail}"
            ) from error


async def fetch_enabled(request: Request) -> None:
    """Check that fetching is enabled.

    Raises:
        FetchingOffError: `WAYBILL_FETCH` is not set.
    """
    if not cast("api.AppState", request.scope["state"])["settings"].fetch:
        raise FetchingOffError(
            "Fetching from URLs is disabled; set WAYBILL_FETCH=true to enable it."
        )


@router.post(
    f"{api.UPLOAD}/from-url",
    status_code=202,
    response_model=AcceptedFile,
    responses={200: KNOWN_RESPONSE, 202: ACCEPTED_RESPONSE, **ERROR_RESPONSES},
    dependencies=[Depends(api.uploader), Depends(fetch_enabled), Depends(api.checked_key)],
)
async def fetch(
    asked: FetchRequest,
    request: Request,
    asker: api.Uploader,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> Response:
    """Fetch a file from a public https URL and accept it like an upload.

    The answer 202 means the same as for `POST /api/files/upload`. It is sent once the file is
    stored. Requires `WAYBILL_FETCH`.
    """
    state = cast("api.AppState", request.scope["state"])
    read_labels((PREFIX + name, value) for name, value in asked.labels.items())
    try:
        async with state["outbound"].get(asked.url, HEADERS) as answer:
            if answer.status != OK:
                raise FetchFailedError(
                    f"The URL answered with status {answer.status}; it must answer with 200."
                )
            body = FetchedBody(answer, asked, idempotency_key)
            accepted = await state["admission"].take_body(body, asker)
    except OutboundError as error:
        raise FetchFailedError(f"The file cannot be fetched: {error.detail}") from error
    return api.answer(accepted, state["status_url"])

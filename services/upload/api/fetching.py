"""Files from elsewhere: `POST /api/files/upload/from-url` fetches one and takes it in."""

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
    """Where a file is, and what to call it."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=2000, examples=["https://files.example/report.pdf"])
    name: str | None = Field(
        default=None, max_length=1000, description="If it is not the end of the address."
    )
    labels: dict[str, str] = Field(default={})
    deduplicate: bool | None = Field(
        default=None, description="Give me the earlier file, if there is one with that content."
    )
    allow_empty: bool = Field(default=False, description="Accept a file without content.")


class FetchedBody:
    """The one file of an answer, as if it had come with a request."""

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
        """Bytes that the answer is to have, if it told."""
        length = self._answer.headers.get("content-length", "")
        return int(length) if length.isdecimal() else None

    async def files(self) -> AsyncIterator[IncomingFile]:
        """The file."""
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
            raise FetchFailedError(f"The file broke off: {error.detail}") from error


async def fetching(request: Request) -> None:
    """Check that files are fetched at all.

    Raises:
        FetchingOffError: they are not.
    """
    if not cast("api.AppState", request.scope["state"])["settings"].fetch:
        raise FetchingOffError("This service fetches no files; set WAYBILL_FETCH=true.")


@router.post(
    f"{api.UPLOAD}/from-url",
    status_code=202,
    response_model=AcceptedFile,
    responses={200: KNOWN_RESPONSE, 202: ACCEPTED_RESPONSE, **ERROR_RESPONSES},
    dependencies=[Depends(api.uploader), Depends(fetching), Depends(api.checked_key)],
)
async def fetch(
    asked: FetchRequest,
    request: Request,
    asker: api.Uploader,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> Response:
    """Have a file fetched from a public https address, and handed over as if you had sent it.

    The answer 202 means the same as that of an upload, and comes when the file is here. Only where
    `WAYBILL_FETCH` is set.
    """
    state = cast("api.AppState", request.scope["state"])
    read_labels((PREFIX + name, value) for name, value in asked.labels.items())
    try:
        async with state["outbound"].get(asked.url, HEADERS) as answer:
            if answer.status != OK:
                raise FetchFailedError(f"The address answered {answer.status}.")
            body = FetchedBody(answer, asked, idempotency_key)
            accepted = await state["admission"].take_body(body, asker)
    except OutboundError as error:
        raise FetchFailedError(f"The file cannot be fetched: {error.detail}") from error
    return api.answer(accepted, state["status_url"])

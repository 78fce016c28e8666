"""The desk where files are handed in: lets so many in at once, and counts how each one fared."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect, Request

from services.upload.body import IncomingBody
from services.upload.intake import Intake
from services.upload.settings import UploadSettings
from services.upload.waybills import Accepted
from shared.errors import OverloadedError, WaybillError
from shared.principal import Principal
from shared.telemetry import UPLOAD_BYTES, UPLOADS

_outcome_counter = functools.cache(UPLOADS.labels)
"""Looking a counter up by its label takes longer than counting."""


class Desk:
    """Takes uploads, at most `max_uploads` at once."""

    def __init__(self, *, settings: UploadSettings, intake: Intake) -> None:
        self._settings = settings
        self._intake = intake
        self._in_work = 0

    async def take(self, request: Request, asker: Principal) -> Accepted:
        """Take the files of one request in.

        Raises:
            RefusedError: the request is not acceptable.
            UnavailableError: too many uploads are in work, or a part we need does not answer.
            ClientDisconnect: the client went away.
        """
        with self._counted(), self._place():
            accepted = await self._intake.take(IncomingBody(request, self._settings), asker)
        UPLOAD_BYTES.inc(sum(file.size for file in accepted.files))
        return accepted

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._in_work >= self._settings.max_uploads:
            raise OverloadedError(
                f"{self._in_work} uploads are in work, as many as this service takes at once; "
                "send this one again later."
            )
        self._in_work += 1
        try:
            yield
        finally:
            self._in_work -= 1

    @staticmethod
    @contextmanager
    def _counted() -> Iterator[None]:
        outcome = "internal"
        try:
            yield
            outcome = "accepted"
        except WaybillError as error:
            outcome = error.code
            raise
        except ClientDisconnect:
            outcome = "client_gone"
            raise
        finally:
            _outcome_counter(outcome).inc()

"""The desk where files are handed in.

It lets so many in at once, each owner so many and so much in a time, and counts how each fared.
"""

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from starlette.requests import ClientDisconnect, Request

from services.upload.body.body import Body, IncomingBody
from services.upload.coarse_timeouts import CoarseTimeouts
from services.upload.intake.accepted import Accepted
from services.upload.intake.intake import Intake
from services.upload.quotas.usage import Usage, owner_of
from services.upload.settings import UploadSettings
from shared.auth.principal import Principal
from shared.errors import OverloadedError, WaybillError
from shared.telemetry import UPLOAD_BYTES, UPLOADS

_outcome_counter = functools.cache(UPLOADS.labels)
"""Looking a counter up by its label takes longer than counting."""


class UploadAdmission:
    """Takes uploads, at most `max_uploads` at once."""

    def __init__(self, *, settings: UploadSettings, intake: Intake, usage: Usage) -> None:
        self._settings = settings
        self._intake = intake
        self._in_work = 0
        self._usage = usage
        self._timeouts = CoarseTimeouts()

    def body_of(self, request: Request) -> IncomingBody:
        """What a request brings."""
        return IncomingBody(request, self._settings, self._timeouts)

    async def take(self, request: Request, asker: Principal) -> Accepted:
        """Take the files of one request in.

        Raises:
            RefusedError: the request is not acceptable.
            UnavailableError: too many uploads are in work, or a part we need does not answer.
            ClientDisconnect: the client went away.
        """
        return await self.take_body(self.body_of(request), asker)

    async def take_body(self, body: Body, asker: Principal) -> Accepted:
        """Take files in that do not come as a request; raises what `take` does."""
        with self.admitted(asker, announced=body.announced or 0) as used:
            accepted = await self._intake.take(body, asker)
            used.append(sum(file.size for file in accepted.files))
        return accepted

    @contextmanager
    def admitted(self, asker: Principal, *, announced: int) -> Iterator[list[int]]:
        """Let a request in that may bring so many bytes; those that it brought go into the list.

        Raises:
            AllowanceError: the asker has uploaded too much lately.
            OverloadedError: too many uploads are in work.
        """
        # One generator in place of one for each thing that is counted: each takes a microsecond.
        outcome = "internal"
        self._in_work += 1
        try:
            self._check_place()
            with self._allowed(asker, announced) as used:
                yield used
            outcome = "accepted"
        except WaybillError as error:
            outcome = error.code
            raise
        except ClientDisconnect:
            outcome = "client_gone"
            raise
        finally:
            self._in_work -= 1
            _outcome_counter(outcome).inc()
        UPLOAD_BYTES.inc(sum(used))

    def check_allowance(self, asker: Principal, *, announced: int) -> None:
        """Count a request that is to bring so many bytes later, which are not counted yet.

        Raises:
            AllowanceError: they would be refused now.
        """
        with self._allowed(asker, announced):
            pass

    def _check_place(self) -> None:
        others = self._in_work - 1
        if others >= self._settings.max_uploads:
            raise OverloadedError(
                f"{others} uploads are in work, as many as this service takes at once; "
                "send this one again later."
            )

    def _allowed(self, asker: Principal, announced: int) -> AbstractContextManager[list[int]]:
        """Let an owner's request pass if it is allowed; what it used goes into the list."""
        if asker.subject and self._usage.is_limited:
            return self._usage.allowed(owner_of(asker), announced)
        return nullcontext([])

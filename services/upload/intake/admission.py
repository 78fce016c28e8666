"""Admission of uploads.

Limits concurrent uploads and each owner's rate and volume, and counts outcomes.
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
"""Cached, because the lookup of a counter by its label takes longer than the increment."""


class UploadAdmission:
    """Admits up to `max_uploads` concurrent uploads."""

    def __init__(self, *, settings: UploadSettings, intake: Intake, usage: Usage) -> None:
        self._settings = settings
        self._intake = intake
        self._in_progress = 0
        self._usage = usage
        self._timeouts = CoarseTimeouts()

    def body_of(self, request: Request) -> IncomingBody:
        """Return the body of a request."""
        return IncomingBody(request, self._settings, self._timeouts)

    async def take(self, request: Request, asker: Principal) -> Accepted:
        """Accept the files of one request.

        Raises:
            RefusedError: The request is rejected.
            UnavailableError: Too many uploads are in progress, or a dependency does not answer.
            ClientDisconnect: The client disconnected.
        """
        return await self.take_body(self.body_of(request), asker)

    async def take_body(self, body: Body, asker: Principal) -> Accepted:
        """Accept files that do not come from a request body. Raises what `take` raises."""
        with self.admitted(asker, announced=body.announced or 0) as used:
            accepted = await self._intake.take(body, asker)
            used.append(sum(file.size for file in accepted.files))
        return accepted

    @contextmanager
    def admitted(self, asker: Principal, *, announced: int) -> Iterator[list[int]]:
        """Admit a request for the duration of the block.

        Args:
            asker: The caller.
            announced: Bytes that the request is expected to upload.

        Yields:
            A list to which the block appends the number of bytes that it uploaded.

        Raises:
            AllowanceError: The caller has used up a quota.
            OverloadedError: Too many uploads are in progress.
        """
        # One generator for all counters, because each generator costs a microsecond.
        outcome = "internal"
        self._in_progress += 1
        try:
            self._check_capacity()
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
            self._in_progress -= 1
            _outcome_counter(outcome).inc()
        UPLOAD_BYTES.inc(sum(used))

    def check_allowance(self, asker: Principal, *, announced: int) -> None:
        """Count a request that will upload its bytes later. The bytes are not counted yet.

        Raises:
            AllowanceError: The bytes would exceed a quota now.
        """
        with self._allowed(asker, announced):
            pass

    def _check_capacity(self) -> None:
        others = self._in_progress - 1
        if others >= self._settings.max_uploads:
            raise OverloadedError(
                f"{others} uploads are in progress and the limit is {self._settings.max_uploads}; "
                "send this one again later."
            )

    def _allowed(self, asker: Principal, announced: int) -> AbstractContextManager[list[int]]:
        """Apply the owner's quotas to a request. The block appends its byte count to the list."""
        if asker.subject and self._usage.is_limited:
            return self._usage.allowed(owner_of(asker), announced)
        return nullcontext([])

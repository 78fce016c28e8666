"""The requests and responses of the HTTP API, shared by both clients."""

import json
import mimetypes
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx

from waybill.addresses import Addresses
from waybill.errors import NoAnswerError, RefusedError

TIMEOUT = httpx.Timeout(30.0, read=120.0)
"""Seconds. The read timeout is long because a large upload is answered only once it is stored."""

MAX_ATTEMPTS = 4
"""Maximum attempts of an upload. Longer outages are reported to the caller."""

RETRY_DELAY = 0.25
"""Seconds before the second attempt if there is no answer; doubled for each further one."""

MAX_RETRY_DELAY = 30.0
"""Maximum seconds between two attempts, even if the service asks for more."""

TERMINAL = frozenset({"completed", "failed", "cancelled"})


def credentials(token: str | None) -> dict[str, str]:
    """Return the `Authorization` header for a token, or for `WAYBILL_TOKEN`, if there is one."""
    bearer = token or os.environ.get("WAYBILL_TOKEN")
    return {"Authorization": f"Bearer {bearer}"} if bearer else {}


@dataclass(frozen=True)
class Call:
    """One request without its body."""

    method: str
    url: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def retry_delay(error: NoAnswerError | RefusedError, attempts: int) -> float:
    """Return the seconds before the next attempt of an upload.

    Retries are safe because every upload carries an Idempotency-Key.

    Args:
        error: The error of the last attempt.
        attempts: Number of attempts so far.

    Raises:
        NoAnswerError, RefusedError: `error` itself, if the upload is not to be retried.
    """
    delay = (
        error.retry_after if isinstance(error, RefusedError) else RETRY_DELAY * 2 ** (attempts - 1)
    )
    if attempts >= MAX_ATTEMPTS or delay is None:
        raise error
    return min(delay, MAX_RETRY_DELAY)


class Calls:
    """Builds the requests to one installation."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    def upload(
        self,
        name: str,
        size: int,
        content_type: str | None,
        labels: Mapping[str, str] | None,
        *,
        deduplicate: bool | None,
        allow_empty: bool = False,
    ) -> Call:
        guessed = content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        params = {"name": name} | {f"label.{key}": value for key, value in (labels or {}).items()}
        if deduplicate is not None:
            params["deduplicate"] = str(deduplicate).lower()
        if allow_empty:
            params["allow_empty"] = "true"
        headers = {
            "Content-Type": guessed,
            "Content-Length": str(size),
            "Idempotency-Key": f'"{uuid4()}"',
        }
        return Call("POST", f"{self._addresses.upload}/api/files/upload", params, headers)

    def direct(
        self,
        name: str,
        size: int,
        content_type: str | None,
        labels: Mapping[str, str] | None,
        sha256: str | None,
        *,
        allow_empty: bool = False,
    ) -> tuple[Call, bytes]:
        """Return the request that creates a direct upload, and its body."""
        asked: dict[str, Any] = {
            "name": name,
            "size": size,
            "labels": dict(labels or {}),
        } | _without_none(
            content_type=content_type or mimetypes.guess_type(name)[0],
            sha256=sha256,
        )
        if allow_empty:
            asked["allow_empty"] = True
        headers = {"Content-Type": "application/json", "Idempotency-Key": f'"{uuid4()}"'}
        url = f"{self._addresses.upload}/api/files/upload/direct"
        return Call("POST", url, headers=headers), json.dumps(asked).encode()

    def complete(self, file_id: str) -> Call:
        path = f"/api/files/upload/direct/{quote(file_id, safe='')}/complete"
        return Call("POST", self._addresses.upload + path)

    def abandon(self, file_id: str) -> Call:
        path = f"/api/files/upload/direct/{quote(file_id, safe='')}"
        return Call("DELETE", self._addresses.upload + path)

    def status(self, file_id: str, wait: float | None) -> Call:
        params = {} if wait is None else {"wait": str(wait)}
        return Call("GET", f"{self._file(file_id)}/process/status", params)

    def cancel(self, file_id: str, reason: str | None) -> Call:
        return Call("POST", f"{self._file(file_id)}/cancel", _without_none(reason=reason))

    def retry(self, file_id: str, *, force: bool, reason: str | None) -> Call:
        return Call(
            "POST", f"{self._file(file_id)}/retry", {"force": force} | _without_none(reason=reason)
        )

    def delete(self, file_id: str, reason: str | None) -> Call:
        return Call("DELETE", self._file(file_id), _without_none(reason=reason))

    def shares(self, file_id: str) -> Call:
        return Call("GET", f"{self._file(file_id)}/shares")

    def share(self, file_id: str, subject: str, reason: str | None) -> Call:
        return Call("PUT", self._share(file_id, subject), _without_none(reason=reason))

    def unshare(self, file_id: str, subject: str, reason: str | None) -> Call:
        return Call("DELETE", self._share(file_id, subject), _without_none(reason=reason))

    def files(self, limit: int, filters: Mapping[str, Any]) -> Call:
        wanted = {name: value for name, value in filters.items() if value}
        return Call("GET", f"{self._addresses.status}/api/files", {"limit": limit, **wanted})

    def events(self, file_id: str) -> Call:
        return Call("GET", f"{self._file(file_id)}/events")

    def stats(self) -> Call:
        return Call("GET", f"{self._addresses.status}/api/stats")

    def stuck(self) -> Call:
        return Call("GET", f"{self._addresses.status}/api/admin/stuck")

    def dead_letters(self, limit: int, code: str | None) -> Call:
        params = {"limit": str(limit)} | _without_none(code=code)
        return Call("GET", f"{self._addresses.status}/api/admin/dead", params)

    def dead_letter(self, letter_id: str) -> Call:
        return Call("GET", self._dead(letter_id))

    def redrive(self, letter_id: str) -> Call:
        return Call("POST", f"{self._dead(letter_id)}/redrive")

    def stream(self, params: Mapping[str, str]) -> Call:
        return Call("GET", f"{self._addresses.status}/api/stream", params)

    def _file(self, file_id: str) -> str:
        return f"{self._addresses.status}/api/files/{quote(file_id, safe='')}"

    def _share(self, file_id: str, subject: str) -> str:
        return f"{self._file(file_id)}/shares/{quote(subject, safe='')}"

    def _dead(self, letter_id: str) -> str:
        return f"{self._addresses.status}/api/admin/dead/{quote(letter_id, safe='')}"


def _without_none(**params: str | None) -> dict[str, str]:
    return {name: value for name, value in params.items() if value is not None}


def document(response: httpx.Response) -> dict[str, Any]:
    """Return the body of a response; empty if there is none.

    Raises:
        RefusedError: The service returned an error.
    """
    if response.is_error:
        raise refusal(response)
    answer: dict[str, Any] = response.json() if response.content else {}
    return answer


def subjects(answer: Mapping[str, Any]) -> list[str]:
    """Return the subjects in an answer about shares."""
    return [each["subject"] for each in answer["items"]]


def refusal(response: httpx.Response) -> RefusedError:
    """Convert a problem document to an error."""
    wait = response.headers.get("retry-after", "")
    retry_after = float(wait) if wait.isdecimal() else None
    try:
        problem = response.json()
        return RefusedError(problem["code"], problem["detail"], retry_after=retry_after)
    except (ValueError, KeyError, TypeError):
        return RefusedError(
            f"http_{response.status_code}", response.reason_phrase, retry_after=retry_after
        )


def store_refusal(response: httpx.Response) -> RefusedError:
    """Return the error for a file that the object store rejected."""
    wait = RETRY_DELAY if response.is_server_error else None
    return RefusedError(
        "store_refused",
        f"The object store rejected the file with status {response.status_code}.",
        retry_after=wait,
    )


def store_unavailable(url: str) -> NoAnswerError:
    """Return the error for an unreachable object store."""
    return NoAnswerError(f"The object store at {httpx.URL(url).host} does not answer.")


def no_answer(call: Call) -> NoAnswerError:
    """Return the error for an unreachable service."""
    origin = httpx.URL(call.url).copy_with(path="/", query=None)
    return NoAnswerError(f"No Waybill answers at {origin}; start one with `make run`.")

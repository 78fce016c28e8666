"""The synchronous client: upload files, read their status and follow them live."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

import httpx

from waybill.addresses import Addresses, find_addresses
from waybill.calls import (
    TERMINAL,
    TIMEOUT,
    Call,
    Calls,
    credentials,
    document,
    no_answer,
    refusal,
    retry_delay,
    store_refusal,
    store_unavailable,
    subjects,
)
from waybill.errors import NoAnswerError, RefusedError
from waybill.following import SILENCE, Following, Status

BLOCK = 1 << 18
"""Bytes that are read from a file and sent at a time."""

LONG_POLL = 20.0
"""Seconds of one long poll. Proxies close connections that are idle for 30 to 60 seconds."""

DeadLetter = dict[str, Any]
"""A dead letter, as the status service returns it."""

HistoryLine = dict[str, Any]
"""A line of a file's history, as the status service returns it."""


def _blocks(file: BinaryIO, on_sent: Callable[[int], None]) -> Callable[[], Iterable[bytes]]:
    """Return a function that yields the blocks of a file from the start, each time it is called."""

    def blocks() -> Iterator[bytes]:
        on_sent(-file.tell())
        file.seek(0)
        while block := file.read(BLOCK):
            yield block
            on_sent(len(block))

    return blocks


class Client:
    """A synchronous client.

    Methods raise `RefusedError` if a service returns an error and `NoAnswerError` if it cannot be
    reached.
    """

    def __init__(self, addresses: Addresses | None = None, *, token: str | None = None) -> None:
        """Create a client.

        Args:
            addresses: URLs of the services. Default: see `find_addresses`.
            token: Bearer token or API key. Default: `WAYBILL_TOKEN`, if set.
        """
        self._calls = Calls(addresses or find_addresses())
        self._http = httpx.Client(timeout=TIMEOUT, headers=credentials(token))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def upload(
        self,
        path: Path,
        *,
        content_type: str | None = None,
        labels: Mapping[str, str] | None = None,
        deduplicate: bool | None = None,
        allow_empty: bool = False,
        on_sent: Callable[[int], None] = lambda _: None,
    ) -> Status:
        """Upload a file, streamed from disk. Transient errors are retried.

        Args:
            path: The file.
            content_type: Media type. Default: guessed from the name.
            labels: Labels to attach to the file.
            deduplicate: Return an earlier file with the same content, marked `deduplicated`, if
                there is one. Default: the service's setting.
            allow_empty: Accept a file without content.
            on_sent: Called with the number of bytes after each block, and with a negative number
                when a retry starts from the beginning.

        Returns:
            The service's answer, with the `file_id`.

        Raises:
            OSError: The file cannot be read.
        """
        with path.open("rb") as file:
            size = path.stat().st_size
            call = self._calls.upload(
                path.name,
                size,
                content_type,
                labels,
                deduplicate=deduplicate,
                allow_empty=allow_empty,
            )
            return self._upload(call, _blocks(file, on_sent))

    def upload_direct(
        self,
        path: Path,
        *,
        content_type: str | None = None,
        labels: Mapping[str, str] | None = None,
        sha256: str | None = None,
        allow_empty: bool = False,
        on_sent: Callable[[int], None] = lambda _: None,
    ) -> Status:
        """Upload a file straight to the object store. Requires `WAYBILL_DIRECT`.

        Args:
            path: The file.
            content_type: Media type. Default: guessed from the name.
            labels: Labels to attach to the file.
            sha256: Hash in lower-case hexadecimal digits. A file with another hash is not
                processed.
            allow_empty: Accept a file without content.
            on_sent: See `upload`.

        Raises:
            OSError: The file cannot be read.
        """
        with path.open("rb") as file:
            size = path.stat().st_size
            call, asked = self._calls.direct(
                path.name, size, content_type, labels, sha256, allow_empty=allow_empty
            )
            address = self._upload(call, lambda: asked)
            try:
                self._put(address["url"], size, _blocks(file, on_sent))
            except Exception:
                with suppress(NoAnswerError, RefusedError):  # The service removes it after a day.
                    self._answer(self._calls.abandon(address["file_id"]))
                raise
        return self._upload(self._calls.complete(address["file_id"]), lambda: b"")

    def upload_bytes(
        self,
        name: str,
        content: Iterable[bytes] | bytes,
        *,
        size: int,
        content_type: str | None = None,
        labels: Mapping[str, str] | None = None,
        deduplicate: bool | None = None,
        allow_empty: bool = False,
    ) -> Status:
        """Upload a file from memory or from an iterable.

        An iterable is sent only once, so a failed upload from one is not retried.

        Args:
            name: Name of the file.
            content: The bytes, at once or in blocks.
            size: Size of the content in bytes.
            content_type: Media type. Default: guessed from the name.
            labels: Labels to attach to the file.
            deduplicate: See `upload`.
            allow_empty: Accept a file without content.
        """
        call = self._calls.upload(
            name, size, content_type, labels, deduplicate=deduplicate, allow_empty=allow_empty
        )
        if isinstance(content, bytes):
            return self._upload(call, lambda: content)
        return self._answer(call, content=content)

    def status(self, file_id: str, *, wait: float | None = None) -> Status:
        """Return the status document of a file.

        Args:
            file_id: The file.
            wait: Seconds to wait for the next change if the file is not terminal.
        """
        return self._answer(self._calls.status(file_id, wait))

    def wait(self, file_id: str, *, seconds: float = 3600.0) -> Status:
        """Wait until a file is terminal and return its status document.

        Args:
            file_id: The file.
            seconds: Maximum seconds to wait.

        Raises:
            TimeoutError: The file is not terminal in time.
        """
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            status = self.status(file_id, wait=min(remaining, LONG_POLL))
            if status["status"] in TERMINAL:
                return status
        raise TimeoutError(f"{file_id} is not terminal after {seconds:g} s")

    def cancel(self, file_id: str, *, reason: str | None = None) -> Status:
        """Request the cancellation of a file and return its current status."""
        return self._answer(self._calls.cancel(file_id, reason))

    def retry(self, file_id: str, *, force: bool = False, reason: str | None = None) -> Status:
        """Process a terminal file again as a new run and return its new status.

        Args:
            file_id: The file.
            force: Retry a completed file too.
            reason: Reason for the file's history.
        """
        return self._answer(self._calls.retry(file_id, force=force, reason=reason))

    def delete(self, file_id: str, *, reason: str | None = None) -> Status:
        """Delete a file and its results permanently and return what is left of its status.

        Raises:
            RefusedError: The file has the label `legal_hold` or does not exist.
        """
        return self._answer(self._calls.delete(file_id, reason))

    def share(self, file_id: str, subject: str, *, reason: str | None = None) -> list[str]:
        """Share a file with a subject of its tenant and return all subjects it is shared with."""
        return subjects(self._answer(self._calls.share(file_id, subject, reason)))

    def unshare(self, file_id: str, subject: str, *, reason: str | None = None) -> list[str]:
        """Revoke a share and return the subjects that the file is still shared with."""
        return subjects(self._answer(self._calls.unshare(file_id, subject, reason)))

    def shares(self, file_id: str) -> list[str]:
        """Return the subjects that a file is shared with."""
        return subjects(self._answer(self._calls.shares(file_id)))

    def files(self, *, limit: int = 50, **filters: str | Sequence[str] | None) -> list[Status]:
        """Return the newest files, newest first.

        Args:
            limit: Maximum number of files.
            filters: Query parameters of `GET /api/files`, including `sort`. Empty ones are omitted.
        """
        return self._items(self._calls.files(limit, filters))

    def events(self, file_id: str) -> list[HistoryLine]:
        """Return the history of a file in order, with times and durations."""
        return self._items(self._calls.events(file_id))

    def stats(self) -> dict[str, Any]:
        """Return counts, rates and ages of all files, and the lag of consumer groups."""
        return self._answer(self._calls.stats())

    def stuck(self) -> list[dict[str, Any]]:
        """Return stuck files with the reasons, longest silent first."""
        return self._items(self._calls.stuck())

    def dead_letters(self, *, limit: int = 50, code: str | None = None) -> list[DeadLetter]:
        """Return the newest dead letters, newest first, without their payloads.

        Args:
            limit: Maximum number of dead letters.
            code: Return only this kind: `unreadable`, `unknown_version` or `given_up`.
        """
        return self._items(self._calls.dead_letters(limit, code))

    def dead_letter(self, letter_id: str) -> DeadLetter:
        """Return a dead letter with the record's value in base64."""
        return self._answer(self._calls.dead_letter(letter_id))

    def redrive(self, letter_id: str) -> DeadLetter:
        """Start a new run of an abandoned file, or put an unreadable record back into its topic."""
        return self._answer(self._calls.redrive(letter_id))

    def watch(
        self,
        file_ids: Iterable[str] = (),
        *,
        owner: str | None = None,
        batch_id: str | None = None,
        label: str | None = None,
        status: str | None = None,
    ) -> Iterator[Status]:
        """Yield each status of the matching files, indefinitely.

        With a filter, the current statuses come first. A broken stream is reopened and resumes
        where it stopped.

        Args:
            file_ids: Only these files.
            owner: Only files of this owner.
            batch_id: Only files of this batch.
            label: Only files with this label, `key:value`.
            status: Only updates with this status.
        """
        following = Following(file_ids, owner=owner, batch_id=batch_id, label=label, status=status)
        while True:
            call = self._calls.stream(following.parameters())
            try:
                with self._http.stream(
                    call.method, call.url, params=call.params, timeout=httpx.Timeout(SILENCE)
                ) as response:
                    if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                        if response.is_error:
                            response.read()
                            raise refusal(response)
                        for chunk in response.iter_raw():
                            yield from following.feed(chunk)
            except httpx.TransportError as error:
                if following.should_give_up:
                    raise no_answer(call) from error
            time.sleep(following.next_delay())

    def _upload(self, call: Call, content: Callable[[], Iterable[bytes] | bytes]) -> Status:
        for attempts in itertools.count(1):
            try:
                return self._answer(call, content=content())
            except (NoAnswerError, RefusedError) as error:
                time.sleep(retry_delay(error, attempts))
        raise AssertionError("unreachable")

    def _put(self, url: str, size: int, content: Callable[[], Iterable[bytes]]) -> None:
        for attempts in itertools.count(1):
            try:
                # A separate request: the object store must not receive the Waybill token.
                response = httpx.put(
                    url,
                    content=content(),
                    headers={"Content-Length": str(size)},
                    timeout=TIMEOUT,
                )
                if response.is_success:
                    return
                raise store_refusal(response)
            except httpx.TransportError:
                time.sleep(retry_delay(store_unavailable(url), attempts))
            except RefusedError as error:
                time.sleep(retry_delay(error, attempts))

    def _items(self, call: Call) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self._answer(call)["items"]
        return items

    def _answer(self, call: Call, *, content: Iterable[bytes] | bytes | None = None) -> Status:
        try:
            response = self._http.request(
                call.method, call.url, params=call.params, headers=call.headers, content=content
            )
        except httpx.TransportError as error:
            raise no_answer(call) from error
        return document(response)

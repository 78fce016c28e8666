"""The client: hand a file over, look at its status, follow it to its end."""

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
    pause_before_retry,
    refusal,
    store_gone,
    store_refusal,
    subjects,
)
from waybill.errors import NoAnswerError, RefusedError
from waybill.following import SILENCE, Following, Status

BLOCK = 1 << 18
"""Bytes that are read from a file and sent at a time."""

LONG_POLL = 20.0
"""Seconds of one long poll: proxies close what is silent for longer than 30 to 60."""

DeadLetter = dict[str, Any]
"""A dead letter, as the status service answers it."""

HistoryLine = dict[str, Any]
"""A line of a file's history, as the status service answers it."""


def _blocks(file: BinaryIO, on_sent: Callable[[int], None]) -> Callable[[], Iterable[bytes]]:
    """What gives the blocks of a file from its beginning, as often as it is asked."""

    def blocks() -> Iterator[bytes]:
        on_sent(-file.tell())
        file.seek(0)
        while block := file.read(BLOCK):
            yield block
            on_sent(len(block))

    return blocks


class Client:
    """Talks to one Waybill.

    Methods raise `RefusedError` for a problem document and `NoAnswerError` if nobody answers.
    """

    def __init__(self, addresses: Addresses | None = None, *, token: str | None = None) -> None:
        """Args:
        addresses: where the services are; by default as the environment or the stack says.
        token: says who asks; by default what `WAYBILL_TOKEN` has, if anything.
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
        """Hand over a file; it is streamed from the disk, again if need be.

        Args:
            deduplicate: whether an earlier file with the same content will do, which is marked
                `deduplicated` then; by default as the service has it.
            allow_empty: whether a file without content is accepted.
            on_sent: called with the number of bytes, each time some were sent; with a negative
                number when the file is sent again from its beginning.

        Raises:
            OSError: the file cannot be read.
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
        """Hand over a file by putting it into the object store oneself, where that is allowed.

        Args:
            sha256: in hexadecimal digits, lower case; the file is worked on only if it is its.
            allow_empty, on_sent: as for `upload`.

        Raises:
            OSError: the file cannot be read.
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
                with suppress(NoAnswerError, RefusedError):  # Then it is forgotten after a day.
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
        """Hand over a file of `size` bytes, at once or in blocks.

        In blocks it can be sent only once: what fails then is not tried again.
        """
        call = self._calls.upload(
            name, size, content_type, labels, deduplicate=deduplicate, allow_empty=allow_empty
        )
        if isinstance(content, bytes):
            return self._upload(call, lambda: content)
        return self._answer(call, content=content)

    def status(self, file_id: str, *, wait: float | None = None) -> Status:
        """The status document of a file.

        Args:
            wait: seconds to wait for the next change, if the file is not terminal yet.
        """
        return self._answer(self._calls.status(file_id, wait))

    def wait(self, file_id: str, *, seconds: float = 3600.0) -> Status:
        """The status document of a file once it is terminal.

        Raises:
            TimeoutError: it is not terminal by then.
        """
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            status = self.status(file_id, wait=min(remaining, LONG_POLL))
            if status["status"] in TERMINAL:
                return status
        raise TimeoutError(f"{file_id} is not terminal after {seconds:g} s")

    def cancel(self, file_id: str, *, reason: str | None = None) -> Status:
        """Ask for the work on a file to be stopped; returns its status as of now."""
        return self._answer(self._calls.cancel(file_id, reason))

    def retry(self, file_id: str, *, force: bool = False, reason: str | None = None) -> Status:
        """Have a file that has ended worked on again, as its next run; returns its new status.

        Args:
            force: also if it is completed.
        """
        return self._answer(self._calls.retry(file_id, force=force, reason=reason))

    def delete(self, file_id: str, *, reason: str | None = None) -> Status:
        """Delete a file for good, with its results; returns what is left of its status.

        Raises:
            RefusedError: it has the label `legal_hold`, or is not there.
        """
        return self._answer(self._calls.delete(file_id, reason))

    def share(self, file_id: str, subject: str, *, reason: str | None = None) -> list[str]:
        """Let somebody else of the file's tenant read it; returns who reads it now."""
        return subjects(self._answer(self._calls.share(file_id, subject, reason)))

    def unshare(self, file_id: str, subject: str, *, reason: str | None = None) -> list[str]:
        """Let somebody read a file no longer; returns who reads it now."""
        return subjects(self._answer(self._calls.unshare(file_id, subject, reason)))

    def shares(self, file_id: str) -> list[str]:
        """Who reads a file, beside its owner."""
        return subjects(self._answer(self._calls.shares(file_id)))

    def files(self, *, limit: int = 50, **filters: str | Sequence[str] | None) -> list[Status]:
        """The newest files, newest first.

        Args:
            filters: as `GET /api/files` has them, `sort` included; what is empty is left out.
        """
        return self._items(self._calls.files(limit, filters))

    def events(self, file_id: str) -> list[HistoryLine]:
        """What happened to a file, in order, with times and durations."""
        return self._items(self._calls.events(file_id))

    def stats(self) -> dict[str, Any]:
        """Counts, rates and ages of all files, and who is behind."""
        return self._answer(self._calls.stats())

    def stuck(self) -> list[dict[str, Any]]:
        """Files that do not go on, longest silent first, with the reasons."""
        return self._items(self._calls.stuck())

    def dead_letters(self, *, limit: int = 50, code: str | None = None) -> list[DeadLetter]:
        """The newest dead letters, newest first, without their payloads.

        Args:
            code: only these: `unreadable`, `unknown_version` or `given_up`.
        """
        return self._items(self._calls.dead_letters(limit, code))

    def dead_letter(self, letter_id: str) -> DeadLetter:
        """One dead letter, with the record's value in base64."""
        return self._answer(self._calls.dead_letter(letter_id))

    def redrive(self, letter_id: str) -> DeadLetter:
        """Start a file that was given up anew, or put a record back that could not be read."""
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
        """Each state of the files that match, without end.

        The present states come first, unless nothing in particular is followed. A stream that
        breaks is opened again and goes on where it broke.

        Args:
            label: `key:value`.
            status: only states of this status.
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
                            yield from following.take(chunk)
            except httpx.TransportError as error:
                if following.is_hopeless:
                    raise no_answer(call) from error
            time.sleep(following.broke())

    def _upload(self, call: Call, content: Callable[[], Iterable[bytes] | bytes]) -> Status:
        for tries in itertools.count(1):
            try:
                return self._answer(call, content=content())
            except (NoAnswerError, RefusedError) as error:
                time.sleep(pause_before_retry(error, tries))
        raise AssertionError("unreachable")

    def _put(self, url: str, size: int, content: Callable[[], Iterable[bytes]]) -> None:
        for tries in itertools.count(1):
            try:
                # On a connection of its own: the store must not see who asks a Waybill.
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
                time.sleep(pause_before_retry(store_gone(url), tries))
            except RefusedError as error:
                time.sleep(pause_before_retry(error, tries))

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

"""The asyncio client: upload files, read their status and follow them live."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

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
from waybill.client import BLOCK, LONG_POLL
from waybill.errors import NoAnswerError, RefusedError
from waybill.following import SILENCE, Following, Status


def _blocks(file: BinaryIO) -> Callable[[], AsyncIterator[bytes]]:
    """Return a function that yields the blocks of a file from the start, each time it is called."""

    async def blocks() -> AsyncIterator[bytes]:
        file.seek(0)
        while block := await asyncio.to_thread(file.read, BLOCK):
            yield block

    return blocks


class AsyncClient:
    """A client for asyncio.

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
        self._http = httpx.AsyncClient(timeout=TIMEOUT, headers=credentials(token))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def upload(
        self,
        path: Path,
        *,
        content_type: str | None = None,
        labels: Mapping[str, str] | None = None,
        deduplicate: bool | None = None,
        allow_empty: bool = False,
    ) -> Status:
        """Upload a file. A thread reads it from disk. Transient errors are retried.

        Args:
            path: The file.
            content_type: Media type. Default: guessed from the name.
            labels: Labels to attach to the file.
            deduplicate: See `Client.upload`.
            allow_empty: Accept a file without content.

        Returns:
            The service's answer, with the `file_id`.

        Raises:
            OSError: The file cannot be read.
        """
        file = await asyncio.to_thread(path.open, "rb")
        try:
            size = (await asyncio.to_thread(path.stat)).st_size
            call = self._calls.upload(
                path.name,
                size,
                content_type,
                labels,
                deduplicate=deduplicate,
                allow_empty=allow_empty,
            )
            return await self._upload(call, _blocks(file))
        finally:
            file.close()

    async def upload_direct(
        self,
        path: Path,
        *,
        content_type: str | None = None,
        labels: Mapping[str, str] | None = None,
        sha256: str | None = None,
        allow_empty: bool = False,
    ) -> Status:
        """Upload a file straight to the object store; see `Client.upload_direct`.

        Raises:
            OSError: The file cannot be read.
        """
        file = await asyncio.to_thread(path.open, "rb")
        try:
            size = (await asyncio.to_thread(path.stat)).st_size
            call, asked = self._calls.direct(
                path.name, size, content_type, labels, sha256, allow_empty=allow_empty
            )
            address = await self._upload(call, lambda: asked)
            try:
                await self._put(address["url"], size, _blocks(file))
            except Exception:
                with suppress(NoAnswerError, RefusedError):  # The service removes it after a day.
                    await self._answer(self._calls.abandon(address["file_id"]))
                raise
        finally:
            file.close()
        return await self._upload(self._calls.complete(address["file_id"]), lambda: b"")

    async def upload_bytes(
        self,
        name: str,
        content: AsyncIterator[bytes] | bytes,
        *,
        size: int,
        content_type: str | None = None,
        labels: Mapping[str, str] | None = None,
        deduplicate: bool | None = None,
        allow_empty: bool = False,
    ) -> Status:
        """Upload a file from memory or from an iterator.

        An iterator can be sent only once, so a failed upload from one is not retried.

        Args:
            name: Name of the file.
            content: The bytes, at once or in blocks.
            size: Size of the content in bytes.
            content_type: Media type. Default: guessed from the name.
            labels: Labels to attach to the file.
            deduplicate: See `Client.upload`.
            allow_empty: Accept a file without content.
        """
        call = self._calls.upload(
            name, size, content_type, labels, deduplicate=deduplicate, allow_empty=allow_empty
        )
        if isinstance(content, bytes):
            return await self._upload(call, lambda: content)
        return await self._answer(call, content=content)

    async def status(self, file_id: str, *, wait: float | None = None) -> Status:
        """Return the status document of a file.

        Args:
            file_id: The file.
            wait: Seconds to wait for the next change if the file is not terminal.
        """
        return await self._answer(self._calls.status(file_id, wait))

    async def wait(self, file_id: str, *, seconds: float = 3600.0) -> Status:
        """Wait until a file is terminal and return its status document.

        Args:
            file_id: The file.
            seconds: Maximum seconds to wait.

        Raises:
            TimeoutError: The file is not terminal in time.
        """
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            status = await self.status(file_id, wait=min(remaining, LONG_POLL))
            if status["status"] in TERMINAL:
                return status
        raise TimeoutError(f"{file_id} is not terminal after {seconds:g} s")

    async def cancel(self, file_id: str, *, reason: str | None = None) -> Status:
        """Request the cancellation of a file and return its current status."""
        return await self._answer(self._calls.cancel(file_id, reason))

    async def retry(
        self, file_id: str, *, force: bool = False, reason: str | None = None
    ) -> Status:
        """Process a terminal file again as a new run and return its new status.

        Args:
            file_id: The file.
            force: Retry a completed file too.
            reason: Reason for the file's history.
        """
        return await self._answer(self._calls.retry(file_id, force=force, reason=reason))

    async def delete(self, file_id: str, *, reason: str | None = None) -> Status:
        """Delete a file and its results permanently and return what is left of its status.

        Raises:
            RefusedError: The file has the label `legal_hold` or does not exist.
        """
        return await self._answer(self._calls.delete(file_id, reason))

    async def share(self, file_id: str, subject: str, *, reason: str | None = None) -> list[str]:
        """Share a file with a subject of its tenant and return all subjects it is shared with."""
        return subjects(await self._answer(self._calls.share(file_id, subject, reason)))

    async def unshare(self, file_id: str, subject: str, *, reason: str | None = None) -> list[str]:
        """Revoke a share and return the subjects that the file is still shared with."""
        return subjects(await self._answer(self._calls.unshare(file_id, subject, reason)))

    async def shares(self, file_id: str) -> list[str]:
        """Return the subjects that a file is shared with."""
        return subjects(await self._answer(self._calls.shares(file_id)))

    async def watch(
        self,
        file_ids: Iterable[str] = (),
        *,
        owner: str | None = None,
        batch_id: str | None = None,
        label: str | None = None,
        status: str | None = None,
    ) -> AsyncIterator[Status]:
        """Yield each status of the matching files, indefinitely; see `Client.watch`."""
        following = Following(file_ids, owner=owner, batch_id=batch_id, label=label, status=status)
        while True:
            call = self._calls.stream(following.parameters())
            try:
                async with self._http.stream(
                    call.method, call.url, params=call.params, timeout=httpx.Timeout(SILENCE)
                ) as response:
                    if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                        if response.is_error:
                            await response.aread()
                            raise refusal(response)
                        async for chunk in response.aiter_raw():
                            for each in following.feed(chunk):
                                yield each
            except httpx.TransportError as error:
                if following.should_give_up:
                    raise no_answer(call) from error
            await asyncio.sleep(following.next_delay())

    async def _upload(
        self, call: Call, content: Callable[[], AsyncIterator[bytes] | bytes]
    ) -> Status:
        for attempts in itertools.count(1):
            try:
                return await self._answer(call, content=content())
            except (NoAnswerError, RefusedError) as error:
                await asyncio.sleep(retry_delay(error, attempts))
        raise AssertionError("unreachable")

    async def _put(self, url: str, size: int, content: Callable[[], AsyncIterator[bytes]]) -> None:
        for attempts in itertools.count(1):
            try:
                # A separate client: the object store must not receive the Waybill token.
                async with httpx.AsyncClient(timeout=TIMEOUT) as store:
                    response = await store.put(
                        url, content=content(), headers={"Content-Length": str(size)}
                    )
                if response.is_success:
                    return
                raise store_refusal(response)
            except httpx.TransportError:
                await asyncio.sleep(retry_delay(store_unavailable(url), attempts))
            except RefusedError as error:
                await asyncio.sleep(retry_delay(error, attempts))

    async def _answer(
        self, call: Call, *, content: AsyncIterator[bytes] | bytes | None = None
    ) -> Status:
        try:
            response = await self._http.request(
                call.method, call.url, params=call.params, headers=call.headers, content=content
            )
        except httpx.TransportError as error:
            raise no_answer(call) from error
        return document(response)

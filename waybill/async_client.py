"""The client for asyncio: hand a file over, look at its status, follow it to its end."""

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
    pause_before_retry,
    refusal,
    store_gone,
    store_refusal,
    subjects,
)
from waybill.client import BLOCK, LONG_POLL
from waybill.errors import NoAnswerError, RefusedError
from waybill.following import SILENCE, Following, Status


def _blocks(file: BinaryIO) -> Callable[[], AsyncIterator[bytes]]:
    """What gives the blocks of a file from its beginning, as often as it is asked."""

    async def blocks() -> AsyncIterator[bytes]:
        file.seek(0)
        while block := await asyncio.to_thread(file.read, BLOCK):
            yield block

    return blocks


class AsyncClient:
    """Talks to one Waybill.

    Methods raise `RefusedError` for a problem document and `NoAnswerError` if nobody answers.
    """

    def __init__(self, addresses: Addresses | None = None, *, token: str | None = None) -> None:
        """Args:
        addresses: where the services are; by default as the environment or the stack says.
        token: says who asks; by default what `WAYBILL_TOKEN` has, if anything.
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
        """Hand over a file; it is streamed from the disk, read by a thread, again if need be.

        Args:
            deduplicate, allow_empty: as `Client.upload`.

        Raises:
            OSError: the file cannot be read.
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
        """Hand over a file by putting it into the object store oneself: as `Client`'s.

        Raises:
            OSError: the file cannot be read.
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
                with suppress(NoAnswerError, RefusedError):  # Then it is forgotten after a day.
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
        """Hand over a file of `size` bytes, at once or in blocks.

        In blocks it can be sent only once: what fails then is not tried again.
        """
        call = self._calls.upload(
            name, size, content_type, labels, deduplicate=deduplicate, allow_empty=allow_empty
        )
        if isinstance(content, bytes):
            return await self._upload(call, lambda: content)
        return await self._answer(call, content=content)

    async def status(self, file_id: str, *, wait: float | None = None) -> Status:
        """The status document of a file.

        Args:
            wait: seconds to wait for the next change, if the file is not terminal yet.
        """
        return await self._answer(self._calls.status(file_id, wait))

    async def wait(self, file_id: str, *, seconds: float = 3600.0) -> Status:
        """The status document of a file once it is terminal.

        Raises:
            TimeoutError: it is not terminal by then.
        """
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            status = await self.status(file_id, wait=min(remaining, LONG_POLL))
            if status["status"] in TERMINAL:
                return status
        raise TimeoutError(f"{file_id} is not terminal after {seconds:g} s")

    async def cancel(self, file_id: str, *, reason: str | None = None) -> Status:
        """Ask for the work on a file to be stopped; returns its status as of now."""
        return await self._answer(self._calls.cancel(file_id, reason))

    async def retry(
        self, file_id: str, *, force: bool = False, reason: str | None = None
    ) -> Status:
        """Have a file that has ended worked on again, as its next run; returns its new status.

        Args:
            force: also if it is completed.
        """
        return await self._answer(self._calls.retry(file_id, force=force, reason=reason))

    async def delete(self, file_id: str, *, reason: str | None = None) -> Status:
        """Delete a file for good, with its results; returns what is left of its status.

        Raises:
            RefusedError: it has the label `legal_hold`, or is not there.
        """
        return await self._answer(self._calls.delete(file_id, reason))

    async def share(self, file_id: str, subject: str, *, reason: str | None = None) -> list[str]:
        """Let somebody else of the file's tenant read it; returns who reads it now."""
        return subjects(await self._answer(self._calls.share(file_id, subject, reason)))

    async def unshare(self, file_id: str, subject: str, *, reason: str | None = None) -> list[str]:
        """Let somebody read a file no longer; returns who reads it now."""
        return subjects(await self._answer(self._calls.unshare(file_id, subject, reason)))

    async def shares(self, file_id: str) -> list[str]:
        """Who reads a file, beside its owner."""
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
        """Each state of the files that match, without end: as `Client.watch`."""
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
                            for each in following.take(chunk):
                                yield each
            except httpx.TransportError as error:
                if following.is_hopeless:
                    raise no_answer(call) from error
            await asyncio.sleep(following.broke())

    async def _upload(
        self, call: Call, content: Callable[[], AsyncIterator[bytes] | bytes]
    ) -> Status:
        for tries in itertools.count(1):
            try:
                return await self._answer(call, content=content())
            except (NoAnswerError, RefusedError) as error:
                await asyncio.sleep(pause_before_retry(error, tries))
        raise AssertionError("unreachable")

    async def _put(self, url: str, size: int, content: Callable[[], AsyncIterator[bytes]]) -> None:
        for tries in itertools.count(1):
            try:
                # On a connection of its own: the store must not see who asks a Waybill.
                async with httpx.AsyncClient(timeout=TIMEOUT) as store:
                    response = await store.put(
                        url, content=content(), headers={"Content-Length": str(size)}
                    )
                if response.is_success:
                    return
                raise store_refusal(response)
            except httpx.TransportError:
                await asyncio.sleep(pause_before_retry(store_gone(url), tries))
            except RefusedError as error:
                await asyncio.sleep(pause_before_retry(error, tries))

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

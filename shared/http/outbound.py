"""Requests to URLs that users supply. They reach only public internet addresses (SSRF protection).

Each host is resolved and checked when the connection is opened. Neither DNS rebinding nor a
redirect can therefore lead to an internal address.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from shared.errors import ForbiddenAddressError, WaybillError
from shared.http.public_address import is_public, looks_inside

MAX_CONNECTIONS = 50
"""Maximum number of open connections; further requests wait."""

MAX_REDIRECTS = 5
REDIRECTS = {301, 302, 303, 307, 308}


class OutboundError(WaybillError):
    """The remote server did not respond as expected."""

    code = "outbound"


@dataclass(frozen=True)
class Answer:
    """A response whose body is read on demand."""

    url: str
    """The final URL after redirects."""
    status: int
    headers: Mapping[str, str]
    """Headers by lower-case name; of repeated headers, the last one."""
    pieces: AsyncIterator[bytes]

    async def read(self) -> bytes:
        """Return the next piece of the body; b"" at its end.

        Raises:
            OutboundError: the connection broke.
        """
        with _translated_errors():
            return await anext(self.pieces, b"")


class Outbound:
    """A client for URLs that users supply."""

    def __init__(self, *, private: bool, seconds: float) -> None:
        """Create a client.

        Args:
            private: also allow non-public addresses and HTTP without TLS, for tests.
            seconds: time limit of a whole request.
        """
        self._private = private
        self._seconds = seconds
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=MAX_CONNECTIONS,
            network_backend=_PublicOnlyBackend(private=private),
        )

    def check(self, url: str) -> None:
        """Check a URL without resolving its host.

        Raises:
            ForbiddenAddressError: the URL is invalid or not public.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port  # An invalid port raises here.
        except ValueError as error:
            raise ForbiddenAddressError(f"{url!r} is not a URL: {error}.") from error
        schemes = ("https", "http") if self._private else ("https",)
        if parts.scheme not in schemes or not host or port == 0:
            raise ForbiddenAddressError(f"{url!r} is not a URL that starts with https://.")
        if parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
            raise ForbiddenAddressError(
                "The URL contains a user name, a blank or non-ASCII characters; remove them."
            )
        if not self._private and looks_inside(host):
            raise ForbiddenAddressError(f"{host} is not on the public internet.")

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send a POST request and return the status of the response; its body is not read.

        Raises:
            ForbiddenAddressError: the address is not public.
            OutboundError: there was no response.
        """
        self.check(url)
        async with self._time(), self._opened("POST", url, headers, body) as answer:
            return answer.status

    @asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        """Send a GET request, follow redirects and yield the response.

        The time limit applies until the block is left.

        Raises:
            ForbiddenAddressError: the address or a redirect's target is not public.
            OutboundError: there was no response in time, or there are too many redirects.
        """
        async with self._time():
            for _ in range(MAX_REDIRECTS + 1):
                self.check(url)
                async with self._opened("GET", url, headers) as answer:
                    place = answer.headers.get("location")
                    if answer.status not in REDIRECTS or place is None:
                        yield answer
                        return
                    url = urljoin(url, place)
            raise OutboundError(f"The server redirects more than {MAX_REDIRECTS} times.")

    @asynccontextmanager
    async def _opened(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[Answer]:
        # httpcore would omit the brackets of an IPv6 address.
        sent = [("Host", urlsplit(url).netloc), *headers.items()]
        stream = self._pool.stream(method, url, headers=sent, content=body)
        with _translated_errors():
            response = await stream.__aenter__()
        try:
            found = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in response.headers
            }
            yield Answer(url, int(response.status), found, aiter(response.aiter_stream()))
        finally:
            await stream.__aexit__(None, None, None)

    @asynccontextmanager
    async def _time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds):
                yield
        except TimeoutError:
            raise OutboundError(f"The server did not respond within {self._seconds:g} s.") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Raise `OutboundError` in place of the client library's errors."""
    try:
        yield
    except TimeoutError:
        raise
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise OutboundError(f"{type(error).__name__}: {error}"[:200]) from error


class _PublicOnlyBackend(httpcore.AnyIOBackend):
    """Opens connections to public addresses only."""

    def __init__(self, *, private: bool) -> None:
        self._private = private

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if self._private:
            return await super().connect_tcp(host, port, *args, **kwargs)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(address[0]) for *_, address in found]
        _require_public(addresses, host)
        return await super().connect_tcp(addresses[0], port, *args, **kwargs)


def _require_public(addresses: Iterable[str], host: str) -> None:
    if not all(map(is_public, addresses)):
        raise ForbiddenAddressError(f"{host} is not on the public internet.")

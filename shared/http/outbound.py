"""Requests to addresses that users name: they reach the public internet, and nothing of ours.

Each address is resolved and judged where the connection is opened, so that neither a name that
means another machine a moment later nor a redirect leads inside.
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
"""Open at once; what is beyond waits."""

MAX_REDIRECTS = 5
REDIRECTS = {301, 302, 303, 307, 308}


class OutboundError(WaybillError):
    """The other side did not answer as it should."""

    code = "outbound"


@dataclass(frozen=True)
class Answer:
    """What came back, as far as its head; the rest is read on demand."""

    url: str
    """Where it came from in the end."""
    status: int
    headers: Mapping[str, str]
    """By their names in small letters; of several alike the last."""
    pieces: AsyncIterator[bytes]

    async def read(self) -> bytes:
        """The next piece of the body; b"" at its end.

        Raises:
            OutboundError: it broke off.
        """
        with _told():
            return await anext(self.pieces, b"")


class Outbound:
    """A client for addresses that users name."""

    def __init__(self, *, private: bool, seconds: float) -> None:
        """Args:
        private: allow addresses that are not public, and HTTP without TLS: for trials.
        seconds: for a whole request.
        """
        self._private = private
        self._seconds = seconds
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=MAX_CONNECTIONS,
            network_backend=_Guarded(private=private),
        )

    def check(self, url: str) -> None:
        """Refuse what cannot be an address of somebody else's, as far as it tells by itself.

        Raises:
            ForbiddenAddressError: it is none.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port  # A port that is none raises here.
        except ValueError as error:
            raise ForbiddenAddressError(f"{url!r} is no address: {error}.") from error
        schemes = ("https", "http") if self._private else ("https",)
        if parts.scheme not in schemes or not host or port == 0:
            raise ForbiddenAddressError(f"{url!r} is no address that begins with https://.")
        if parts.username is not None or not url.isascii() or not url.isprintable() or " " in url:
            raise ForbiddenAddressError("An address has no password and ASCII characters only.")
        if not self._private and looks_inside(host):
            raise ForbiddenAddressError(f"{host} is not on the public internet.")

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send something; returns the status of the answer, whose body is not read.

        Raises:
            ForbiddenAddressError: the address is not public.
            OutboundError: there was no answer.
        """
        self.check(url)
        async with self._time(), self._opened("POST", url, headers, body) as answer:
            return answer.status

    @asynccontextmanager
    async def get(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        """What an address gives, redirects followed; the time counts until the block is left.

        Raises:
            ForbiddenAddressError: it is not public, or leads to one that is not.
            OutboundError: there was no answer in time, or it leads from one to another.
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
            raise OutboundError(f"It redirects more than {MAX_REDIRECTS} times.")

    @asynccontextmanager
    async def _opened(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[Answer]:
        # httpcore would leave out the brackets of an IPv6 address.
        sent = [("Host", urlsplit(url).netloc), *headers.items()]
        stream = self._pool.stream(method, url, headers=sent, content=body)
        with _told():
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
            raise OutboundError(f"No answer within {self._seconds:g} s.") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


@contextmanager
def _told() -> Iterator[None]:
    """Turn the client's errors into ours."""
    try:
        yield
    except TimeoutError:
        raise
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise OutboundError(f"{type(error).__name__}: {error}"[:200]) from error


class _Guarded(httpcore.AnyIOBackend):
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

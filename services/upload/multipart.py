"""A multipart/form-data body as a stream of parts, each with its content as it arrives."""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from services.upload.splitting import Begin, Event, Splitter
from shared.errors import BrokenMultipartError


class _Events:
    """The events of a body, no more of which is in memory than the piece at hand."""

    def __init__(self, body: AsyncIterator[bytes], boundary: str) -> None:
        self._body = body
        self._splitter = Splitter(boundary)
        self._read: deque[Event] = deque()

    async def next(self) -> Event | None:
        """The next event; None at the end of the body.

        Raises:
            BrokenMultipartError: the body does not follow the format, or ends too early.
        """
        while not self._read:
            chunk = await anext(self._body, None)
            if chunk is None:
                if not self._splitter.complete:
                    raise BrokenMultipartError(
                        "The body ends before its closing boundary; it was cut short. "
                        "Send it again."
                    )
                return None
            self._read.extend(self._splitter.feed(chunk))
        return self._read.popleft()


@dataclass
class Part:
    """One part: its headers (lower-case names), and its content, which can be read once."""

    headers: dict[str, str]
    _events: _Events = field(repr=False)
    _ended: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content in pieces as they came.

        Raises:
            BrokenMultipartError: the body ends within this part or does not follow the format.
        """
        while not self._ended:
            event = await self._events.next()
            if isinstance(event, bytes):
                yield event
            else:
                self._ended = True

    async def skip(self) -> None:
        """Read past what is left of the content."""
        async for _ in self.chunks():
            pass


async def read_parts(body: AsyncIterator[bytes], boundary: str) -> AsyncIterator[Part]:
    """The parts of `body` in their order; what the caller leaves of one is skipped.

    Raises:
        BrokenMultipartError: the body does not follow the format, ends too early, or has more
            parts or larger headers than we read.
    """
    events = _Events(body, boundary)
    while (event := await events.next()) is not None:
        if isinstance(event, Begin):
            part = Part(event.headers, events)
            yield part
            await part.skip()

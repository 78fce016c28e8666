"""A multipart/form-data body as its parts, each with its content as it arrives.

No more of the body is in memory than the piece at hand. What a generator would do is done by plain
coroutines here: a small upload passed through ten of them, each with its own registration.
"""

from collections import deque
from dataclasses import dataclass

from services.upload.body.splitting import Begin, Content, End, Event, ReadBody, Splitter
from shared.blobs.directory import Read
from shared.errors import BrokenMultipartError


@dataclass
class Part:
    """One part: its headers (lower-case names), and its content, which can be read once."""

    headers: dict[str, str]
    read: Read
    """The next piece of the content; b"" at its end. Raises as `Parts.next` does."""


class Parts:
    """The parts of a body, in their order."""

    def __init__(self, read: ReadBody, boundary: str) -> None:
        """Args:
            read: gives the body, piece by piece; b"" at its end.

        Raises:
            BrokenMultipartError: no boundary may look like that.
        """
        self._read = read
        self._splitter = Splitter(boundary)
        self._events: deque[Event] = deque()
        self._within = False
        """Whether the content of a part is being read."""

    async def next(self) -> Part | None:
        """The next part, None after the last; what the caller left of the one before is skipped.

        Raises:
            BrokenMultipartError: the body does not follow the format, ends too early, or has more
                parts or larger headers than we read.
        """
        while (event := await self._next_event()) is not None:
            if isinstance(event, Begin):
                self._within = True
                return Part(event.headers, self._read_content)
        return None

    async def _read_content(self) -> Content:
        if self._within:
            event = await self._next_event()
            if event is not None and not isinstance(event, Begin | End):
                return event
            self._within = False
        return b""

    async def _next_event(self) -> Event | None:
        while not self._events:
            chunk = await self._read()
            if not chunk:
                if not self._splitter.complete:
                    raise BrokenMultipartError(
                        "The body ends before its closing boundary; it was cut short. "
                        "Send it again."
                    )
                return None
            self._events.extend(self._splitter.feed(chunk))
        return self._events.popleft()

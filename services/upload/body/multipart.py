"""Read a multipart/form-data body part by part, as it arrives.

Only the current piece of the body is in memory. Plain coroutines replace async generators here: a
small upload passed through ten of them, and asyncio registers each one.
"""

from collections import deque
from dataclasses import dataclass

from services.upload.body.splitting import Begin, Content, End, Event, ReadBody, Splitter
from shared.blobs.directory import Read
from shared.errors import BrokenMultipartError


@dataclass
class Part:
    """One part: its headers (lower-case names) and its content, which can be read once."""

    headers: dict[str, str]
    read: Read
    """Returns the next piece of the content; b"" at its end. Raises what `Parts.next` raises."""


class Parts:
    """The parts of a body, in order."""

    def __init__(self, read: ReadBody, boundary: str) -> None:
        """Initialize the reader.

        Args:
            read: Returns the next piece of the body; b"" at its end.
            boundary: The boundary in the Content-Type.

        Raises:
            BrokenMultipartError: The boundary is malformed.
        """
        self._read = read
        self._splitter = Splitter(boundary)
        self._events: deque[Event] = deque()
        self._within = False
        """True while the content of a part is being read."""

    async def next(self) -> Part | None:
        """Return the next part; None after the last. Unread content of the previous one is skipped.

        Raises:
            BrokenMultipartError: The body is malformed or incomplete, or exceeds the limits on
                parts and headers.
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
                        "The body was cut short: its closing boundary is missing. "
                        "Send the request again."
                    )
                return None
            self._events.extend(self._splitter.feed(chunk))
        return self._events.popleft()

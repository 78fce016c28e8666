"""What a step is given and what it gives back."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(kw_only=True)
class Document:
    """The file on its way through the pipeline; each step fills in what it found."""

    path: Path
    """The file's content, on this machine; read only."""
    content_type: str
    size: int
    """bytes"""
    text: str | None = None
    """The text of the file, once a step has read it; None where a file holds none."""
    statistics: dict[str, int | float | str | bool | None] = field(default_factory=dict)
    """Facts for the result: counts, the language and the like."""


class Context(Protocol):
    """What a step may use of the world."""

    run: int
    attempt: int
    settings: Any
    """The settings of a plugin's pipeline, as it declared them."""
    step: str
    """The name of the step that is at work."""
    ocr: bool
    """Whether the text in images is to be read."""

    @property
    def scratch(self) -> Path:
        """An empty directory of this attempt's own, removed afterwards."""

    def progress(
        self, done: int, total: int, message: str | None = None, *, phase: str | None = None
    ) -> None:
        """Tell how far the work has come, in units of the step's choice; costs next to nothing.

        The first report, the last and at most four a second of those between are passed on.

        Args:
            total: how many there will be, 0 where nobody knows.
            phase: what is being done; the step's name if it is not given.
        """

    def artifact(self, name: str, content_type: str, content: bytes | str) -> None:
        """Keep `content` as one of the results of the work."""


Step = Callable[[Document, Context], Document | Awaitable[Document]]
"""A step may be a plain function or an asynchronous one."""

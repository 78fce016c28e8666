"""The interface between the pipeline and its steps."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(kw_only=True)
class Document:
    """The file as it passes through the pipeline; each step adds its findings."""

    path: Path
    """Path of the file's content on this machine; read-only."""
    content_type: str
    size: int
    """Bytes."""
    text: str | None = None
    """The text of the file, once a step has extracted it; None for files without text."""
    statistics: dict[str, int | float | str | bool | None] = field(default_factory=dict)
    """Facts for the result, such as counts and the language."""


class Context(Protocol):
    """The services available to a step."""

    run: int
    attempt: int
    settings: Any
    """The settings of a plugin's pipeline, as an instance of the model that it declared."""
    step: str
    """Name of the running step."""
    ocr: bool
    """True if text in images is to be recognized."""

    @property
    def scratch(self) -> Path:
        """An empty directory for this attempt, removed afterwards."""

    def progress(
        self, done: int, total: int, message: str | None = None, *, phase: str | None = None
    ) -> None:
        """Report progress in units of the step's choice; calls are cheap.

        The first report, the last one, and at most four per second in between are published.

        Args:
            total: number of units overall; 0 if unknown.
            phase: name of the current phase; default: the step's name.
        """

    def artifact(self, name: str, content_type: str, content: bytes | str) -> None:
        """Store `content` as one of the results."""


Step = Callable[[Document, Context], Document | Awaitable[Document]]
"""A step may be a plain function or a coroutine function."""

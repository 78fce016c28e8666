"""Run the steps on given content, as the worker does."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.processor.steps.document import Document
from services.processor.steps.pipeline import run_pipeline
from shared.workerrors import PermanentError, TransientError


@dataclass
class FakeContext:
    """A context that records calls."""

    scratch: Path
    run: int = 1
    attempt: int = 1
    ocr: bool = True
    step: str = ""
    settings: Any = None
    reports: list[tuple[str, int, int]] = field(default_factory=list)
    artifacts: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def progress(
        self, done: int, total: int, message: str | None = None, *, phase: str | None = None
    ) -> None:
        assert message is None
        self.reports.append((phase or self.step, done, total))

    def artifact(self, name: str, content_type: str, content: bytes | str) -> None:
        data = content.encode() if isinstance(content, str) else content
        self.artifacts[name] = (content_type, data)

    @property
    def phases(self) -> list[str]:
        return list(dict.fromkeys(phase for phase, _, _ in self.reports))


@dataclass
class Processing:
    """The steps under test, with a directory and a context."""

    folder: Path
    context: FakeContext

    def run(self, content: bytes, content_type: str) -> Document:
        path = self.folder / "source"
        path.write_bytes(content)
        return self.run_file(path, content_type)

    def run_file(self, path: Path, content_type: str) -> Document:
        document = Document(path=path, content_type=content_type, size=path.stat().st_size)
        return run_pipeline(document, self.context)

    def text(self, content: bytes, content_type: str) -> str:
        text = self.run(content, content_type).text
        assert text is not None
        return text

    def permanent_error(self, content: bytes, content_type: str) -> str:
        """Return the code of the permanent error that processing raises."""
        with pytest.raises(PermanentError) as caught:
            self.run(content, content_type)
        assert caught.value.detail.endswith(".")
        assert str(self.folder) not in caught.value.detail
        return caught.value.error_code

    def transient_error(self, content: bytes, content_type: str) -> str:
        """Return the code of the transient error that processing raises."""
        with pytest.raises(TransientError) as caught:
            self.run(content, content_type)
        return caught.value.error_code

"""What is to be done: one attempt at one file, as an event asks for it."""

from dataclasses import dataclass

from services.processor.offsets import Begun
from services.processor.plugins import Pipelines
from shared.events import FileRequeued, FileRetryScheduled, FileUploaded
from shared.facts import Source
from shared.messaging import KafkaRecord

WorkEvent = FileUploaded | FileRequeued | FileRetryScheduled
"""The events that ask for an attempt."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One attempt that is to be made."""

    file_id: str
    run: int
    attempt: int
    max_attempts: int
    source: Source
    record: KafkaRecord
    """The record that asks for it."""
    pipeline: str | None = None
    """The pipeline of a plugin; None for the built-in one."""
    returned: int = 0
    """Earlier attempts that pods handed back: they have numbers, and cost the file nothing."""

    @property
    def counts(self) -> dict[str, int]:
        """What every event of this attempt carries."""
        return {"run": self.run, "attempt": self.attempt, "max_attempts": self.max_attempts}


def source_of(event: WorkEvent) -> Source:
    """The stored file that an event is about."""
    return event.data.source if isinstance(event, FileRetryScheduled) else event.data


def work_of(
    event: WorkEvent,
    record: KafkaRecord,
    before: Begun,
    *,
    max_attempts: int,
    pipelines: Pipelines,
) -> Work:
    """The attempt that an event asks for.

    Args:
        before: what the ledger tells of attempts at this record.
        max_attempts: of files whose pipeline does not say it.
    """
    attempt, returned = 1, 0
    if isinstance(event, FileRetryScheduled):
        # The file's name and labels are not told again, so the choice is.
        attempt, max_attempts = event.data.attempt, event.data.max_attempts
        pipeline, returned = event.data.pipeline, event.data.returned
    else:
        chosen = pipelines.choose(
            content_type=event.data.content_type, name=event.data.name, labels=event.data.labels
        )
        pipeline = chosen.name if chosen else None
        max_attempts = (chosen and chosen.max_attempts) or max_attempts
    return Work(
        file_id=event.file_id,
        run=event.data.run,
        attempt=attempt + before.attempts,
        max_attempts=max_attempts + before.returned,
        source=source_of(event),
        record=record,
        pipeline=pipeline,
        returned=returned + before.returned,
    )

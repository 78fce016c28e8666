"""One attempt at one file, as requested by an event."""

from dataclasses import dataclass

from services.processor.offsets import Begun
from services.processor.plugins import Pipelines
from shared.events.events import FileRequeued, FileRetryScheduled, FileUploaded
from shared.events.facts import Source
from shared.kafka.messaging import KafkaRecord

JobEvent = FileUploaded | FileRequeued | FileRetryScheduled
"""Events that request an attempt."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One attempt to make."""

    file_id: str
    run: int
    attempt: int
    max_attempts: int
    source: Source
    record: KafkaRecord
    """The record that requests it."""
    pipeline: str | None = None
    """A plugin's pipeline; None for the built-in one."""
    returned: int = 0
    """Earlier attempts that were released. They have numbers but do not count against the file."""
    postponed: int = 0
    """Consecutive attempts, the most recent ones, that failed because of the machine."""
    last_crash: str | None = None
    """How the worker process crashed during the last attempt that counted."""

    @property
    def counts(self) -> dict[str, int]:
        """The fields common to every event of this attempt."""
        return {"run": self.run, "attempt": self.attempt, "max_attempts": self.max_attempts}


def source_of(event: JobEvent) -> Source:
    """Return the stored file that an event refers to."""
    return event.data.source if isinstance(event, FileRetryScheduled) else event.data


def work_of(
    event: JobEvent,
    record: KafkaRecord,
    before: Begun,
    *,
    max_attempts: int,
    pipelines: Pipelines,
    many_suspects: bool = False,
) -> Work:
    """Build the attempt that an event requests.

    Args:
        before: attempts at this record according to the ledger.
        max_attempts: limit for pipelines that do not set their own.
        many_suspects: True if pods also died repeatedly on other files.
    """
    attempt, returned, postponed, last_crash = 1, 0, 0, None
    if isinstance(event, FileRetryScheduled):
        # The event lacks the file's name and labels, so it carries the chosen pipeline.
        attempt, max_attempts = event.data.attempt, event.data.max_attempts
        pipeline, returned = event.data.pipeline, event.data.returned
        postponed, last_crash = event.data.postponed, event.data.crash
    else:
        chosen = pipelines.choose(
            content_type=event.data.content_type, name=event.data.name, labels=event.data.labels
        )
        pipeline = chosen.name if chosen else None
        max_attempts = (chosen and chosen.max_attempts) or max_attempts
    released = before.returned + before.forgiven(many_suspects=many_suspects)
    return Work(
        file_id=event.file_id,
        run=event.data.run,
        attempt=attempt + before.attempts,
        max_attempts=max_attempts + released,
        source=source_of(event),
        record=record,
        pipeline=pipeline,
        returned=returned + released,
        postponed=postponed,
        last_crash=last_crash,
    )

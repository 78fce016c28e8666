"""What is to be done: one attempt at one file, as an event asks for it."""

from dataclasses import dataclass

from services.processor.offsets import Begun
from services.processor.plugins import Pipelines
from shared.events.events import FileRequeued, FileRetryScheduled, FileUploaded
from shared.events.facts import Source
from shared.kafka.messaging import KafkaRecord

JobEvent = FileUploaded | FileRequeued | FileRetryScheduled
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
    """Earlier attempts that were handed back: they have numbers, and cost the file nothing."""
    postponed: int = 0
    """Of those, how many faults of the machine have cost, without another attempt between them."""
    last_crash: str | None = None
    """How the worker process died over the last attempt that counted."""

    @property
    def counts(self) -> dict[str, int]:
        """What every event of this attempt carries."""
        return {"run": self.run, "attempt": self.attempt, "max_attempts": self.max_attempts}


def source_of(event: JobEvent) -> Source:
    """The stored file that an event is about."""
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
    """The attempt that an event asks for.

    Args:
        before: what the ledger tells of attempts at this record.
        max_attempts: of files whose pipeline does not say it.
        many_suspects: whether pods also died again and again over other files.
    """
    attempt, returned, postponed, last_crash = 1, 0, 0, None
    if isinstance(event, FileRetryScheduled):
        # The file's name and labels are not told again, so the choice is.
        attempt, max_attempts = event.data.attempt, event.data.max_attempts
        pipeline, returned = event.data.pipeline, event.data.returned
        postponed, last_crash = event.data.postponed, event.data.crash
    else:
        chosen = pipelines.choose(
            content_type=event.data.content_type, name=event.data.name, labels=event.data.labels
        )
        pipeline = chosen.name if chosen else None
        max_attempts = (chosen and chosen.max_attempts) or max_attempts
    handed_back = before.returned + before.forgiven(many_suspects=many_suspects)
    return Work(
        file_id=event.file_id,
        run=event.data.run,
        attempt=attempt + before.attempts,
        max_attempts=max_attempts + handed_back,
        source=source_of(event),
        record=record,
        pipeline=pipeline,
        returned=returned + handed_back,
        postponed=postponed,
        last_crash=last_crash,
    )

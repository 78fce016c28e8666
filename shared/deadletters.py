"""Dead letters: records that cannot be read, kept with where they stood and why."""

from base64 import b64encode

from shared.events import FileDead
from shared.facts import DeadCode, DeadData
from shared.messaging import KafkaRecord

MAX_REASON = 2000
"""Characters of a dead letter's reason: enough to see what was wrong, small beside the payload."""

MAX_PAYLOAD = 700_000
"""Bytes of a dead letter's payload. In base64 that is 933 kB, and Kafka takes 1 MB: the letter of a
larger record would be refused for ever, and its record would hold up all that follow."""

NO_KEY = "unknown"
"""The subject of a dead letter whose record had no key."""


def dead_letter(
    record: KafkaRecord, reason: str, *, source: str, code: DeadCode = DeadCode.UNREADABLE
) -> FileDead:
    """The event that keeps a record which cannot be read, with where it stood and why."""
    key = (record.key or b"").decode(errors="replace") or NO_KEY
    value = record.value or b""
    data = DeadData(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=reason[:MAX_REASON],
        payload=b64encode(value[:MAX_PAYLOAD]).decode(),
        code=code.value,
        size=len(value),
    )
    return FileDead.of(key, data, source=source)

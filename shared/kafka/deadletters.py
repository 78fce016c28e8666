"""Dead letters: records that cannot be read, kept with where they stood and why."""

from base64 import b64encode

from shared.events.events import FileDead
from shared.events.facts import DeadCode, DeadData
from shared.events.storable import clean_text
from shared.kafka.messaging import KafkaRecord

MAX_KEY = 200
"""Characters of a dead letter's subject: a file's id has 36, and a foreign key may have many."""

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
    key = clean_text((record.key or b"").decode(errors="replace"), MAX_KEY) or NO_KEY
    value = record.value or b""
    data = DeadData(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=clean_text(reason, MAX_REASON),
        payload=b64encode(value[:MAX_PAYLOAD]).decode(),
        code=code.value,
        size=len(value),
    )
    return FileDead.of(key, data, source=source)


def without_payload(letter: FileDead) -> FileDead:
    """The same letter where Kafka takes no record as large as the one that is put aside."""
    return letter.model_copy(update={"data": letter.data.model_copy(update={"payload": ""})})

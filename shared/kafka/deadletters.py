"""Dead letters: records that cannot be processed, kept with their position and the reason."""

from base64 import b64encode

from shared.events.events import FileDead
from shared.events.facts import DeadCode, DeadData
from shared.events.storable import clean_text
from shared.kafka.messaging import KafkaRecord

MAX_KEY = 200
"""Maximum characters of a dead letter's subject. A file id has 36; a foreign key may have more."""

MAX_REASON = 2000
"""Maximum characters of a dead letter's reason: enough for a diagnosis, small next to the
payload."""

MAX_PAYLOAD = 700_000
"""Maximum bytes of a dead letter's payload: 933 kB in base64, while Kafka accepts 1 MB. Kafka would
reject a larger dead letter forever, and its record would block all that follow."""

NO_KEY = "unknown"
"""The subject of a dead letter whose record had no key."""


def dead_letter(
    record: KafkaRecord, reason: str, *, source: str, code: DeadCode = DeadCode.UNREADABLE
) -> FileDead:
    """Return the dead letter of a record, with its position and the reason."""
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
    """Return the dead letter without its payload, for brokers with a lower size limit."""
    return letter.model_copy(update={"data": letter.data.model_copy(update={"payload": ""})})

"""Parsing of records: events of this contract, of other versions, and unreadable payloads."""

import json
from functools import lru_cache
from typing import Annotated, Any, ClassVar

from pydantic import Field, TypeAdapter, ValidationError

from shared.events.events import SCHEMAS, AnyEvent, EventType
from shared.events.facts import DeadCode


class UnreadableEventError(ValueError):
    """A record is not an event of this contract."""

    code: ClassVar[DeadCode] = DeadCode.UNREADABLE


class UnknownVersionError(UnreadableEventError):
    """A record is an event of another version of this contract."""

    code = DeadCode.UNKNOWN_VERSION


_ADAPTER: TypeAdapter[AnyEvent] = TypeAdapter(Annotated[AnyEvent, Field(discriminator="type")])

RECENT = 2_000
"""Payloads whose event is cached, about 3 kB each. Fewer records arrive during any pause of the
projector."""


def parse(payload: bytes) -> AnyEvent | None:
    """Parse the value of one record.

    Returns:
        The event, or None if its type is unknown to this version.

    Raises:
        UnknownVersionError: the envelope or the data has another version.
        UnreadableEventError: the payload is not JSON, not an envelope, or incomplete.
    """
    try:
        event = _ADAPTER.validate_json(payload)
    except MemoryError:
        raise
    except Exception as error:
        # Not only pydantic's own error: an unforeseen value must not look like a bug of the
        # reader, which would then be stuck at this record.
        envelope = _envelope(payload)
        if "specversion" in envelope:
            _check_version(envelope["specversion"], "1.0")
            kind = envelope.get("type")
            if isinstance(kind, str):
                if kind not in SCHEMAS:
                    return None
                _check_version(envelope.get("dataschema"), SCHEMAS[EventType(kind)])
        raise UnreadableEventError(_reason(error)) from error
    if event.dataschema != SCHEMAS[event.type]:
        _check_version(event.dataschema, SCHEMAS[event.type])
    return event


parse_once = lru_cache(maxsize=RECENT)(parse)
"""Like `parse`, with a cache: a status pod reads each event twice within moments, for the
projection and for its streams."""


def _check_version(found: object, known: str) -> None:
    if isinstance(found, str) and found != known:
        raise UnknownVersionError(f"The version is {found[:200]!r}; this reader supports {known}.")


def _envelope(payload: bytes) -> dict[str, Any]:
    try:
        envelope = json.loads(payload)
    except (ValueError, RecursionError):  # Not JSON, or nested too deeply.
        return {}
    return envelope if isinstance(envelope, dict) else {}


def _reason(error: Exception) -> str:
    """Return the invalid fields and the reasons, without the values, which may be long."""
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error}"
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in faults[:5])

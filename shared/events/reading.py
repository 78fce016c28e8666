"""Reading events: what is one of this contract, what is of another version, and what is none."""

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
"""Payloads whose event is kept, some 3 kB each: more come in no pause of the projector."""


def parse(payload: bytes) -> AnyEvent | None:
    """Read one record's value.

    Returns:
        The event, or None for a type that this version does not know: a newer writer's fact.

    Raises:
        UnknownVersionError: the envelope or the data is of another version.
        UnreadableEventError: the payload is not JSON, not an envelope, or incomplete.
    """
    try:
        event = _ADAPTER.validate_json(payload)
    except MemoryError:
        raise
    except Exception as error:
        # Not only pydantic's own error: a value nobody thought of must not look like a fault of
        # the reader, which would stop at this record for ever.
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
"""Reads as `parse` does, and knows the latest events again: a status pod gets each twice within
moments, for the projection and for its streams."""


def _check_version(found: object, known: str) -> None:
    if isinstance(found, str) and found != known:
        raise UnknownVersionError(f"This version reads {known}, not {found[:200]!r}.")


def _envelope(payload: bytes) -> dict[str, Any]:
    try:
        envelope = json.loads(payload)
    except (ValueError, RecursionError):  # It is no JSON, or is nested too deep.
        return {}
    return envelope if isinstance(envelope, dict) else {}


def _reason(error: Exception) -> str:
    """What was wrong: which fields, and why, without their values, which may be long."""
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error}"
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in faults[:5])

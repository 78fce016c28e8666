"""What a server is told, signed after Standard Webhooks (standardwebhooks.com)."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import standardwebhooks

from shared.events.events import FileWebhookScheduled


def message_id(event: FileWebhookScheduled) -> str:
    """The same for every attempt, so that a repeat is recognised."""
    return f"{event.file_id}:{event.data.run}:{event.data.event}"


def body(event: FileWebhookScheduled) -> bytes:
    """The message as JSON. It tells what happened to which file, and nothing of people."""
    fields = event.data.model_dump(mode="json", include={"run", "occurred_at", "error"})
    return json.dumps(
        {
            "type": event.data.event,
            "timestamp": fields["occurred_at"],
            "data": {
                "file_id": event.file_id,
                "status": event.data.event.removeprefix("file."),
                "run": fields["run"],
                "error": fields["error"],
            },
        },
        separators=(",", ":"),
    ).encode()


def headers(event: FileWebhookScheduled, secrets: Sequence[str], now: datetime) -> dict[str, str]:
    """The headers that prove where a message comes from; each secret signs."""
    identity, content = message_id(event), body(event).decode()
    utc = now.astimezone(UTC)
    signatures = [
        standardwebhooks.Webhook(secret).sign(identity, utc, content) for secret in secrets
    ]
    return {
        "Content-Type": "application/json",
        "User-Agent": "Waybill",
        "webhook-id": identity,
        "webhook-timestamp": str(int(utc.timestamp())),
        "webhook-signature": " ".join(signatures),
    }

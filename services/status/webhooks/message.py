"""Webhook messages, signed according to Standard Webhooks (standardwebhooks.com)."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import standardwebhooks

from shared.events.events import FileWebhookScheduled


def message_id(event: FileWebhookScheduled) -> str:
    """Return the message id, which is the same for every attempt so that receivers can
    deduplicate."""
    return f"{event.file_id}:{event.data.run}:{event.data.event}"


def body(event: FileWebhookScheduled) -> bytes:
    """Return the message as JSON. It contains the file id and the outcome, but no personal data."""
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
    """Return the request headers, with one signature per secret."""
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

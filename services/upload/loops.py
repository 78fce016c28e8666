"""The background loops of an upload pod: their purpose, and how soon each must succeed."""

from shared.background.clock_probe import CLOCK_PROBE
from shared.background.loops import Loop
from shared.blobs.directory import BLOB_WRITER

KAFKA = Loop(
    name="kafka-link",
    late_after=20.0,
    vital=False,
    purpose="Keeps the producer connected to Kafka.",
    when_late="Uploads are accepted, and processed once Kafka is available.",
)

OUTBOX = Loop(
    name="outbox-relay",
    late_after=120.0,
    vital=True,
    purpose="Publishes the events in the outbox.",
    when_late="Files that were accepted during a Kafka outage stay pending.",
)

SWEEPS = Loop(
    name="sweeps",
    late_after=3 * 3600.0,
    vital=False,
    purpose="Removes interrupted uploads, expired keys and orphaned files.",
    when_late="Unused storage is freed later.",
)

OUTCOMES = Loop(
    name="outcome-follower",
    late_after=60.0,
    vital=False,
    purpose="Consumes file outcomes for deduplication (`WAYBILL_DEDUPLICATE`).",
    when_late="An upload may be answered with an earlier file that failed in the meantime.",
)

USAGE_REPORTS = Loop(
    name="usage-reports",
    late_after=30.0,
    vital=False,
    purpose="Publishes this pod's per-owner usage to the other pods.",
    when_late="Per-owner limits apply to each pod separately.",
)

USAGE_LISTENER = Loop(
    name="usage-listener",
    late_after=30.0,
    vital=False,
    purpose="Consumes the per-owner usage of the other pods.",
    when_late="Per-owner limits apply to each pod separately.",
)

LOOPS = (BLOB_WRITER, KAFKA, CLOCK_PROBE, OUTBOX, SWEEPS, OUTCOMES, USAGE_REPORTS, USAGE_LISTENER)

"""The background loops of an upload pod: what each is for, and how soon it must succeed."""

from shared.background.clock_probe import CLOCK_PROBE
from shared.background.loops import Loop
from shared.blobs.directory import BLOB_WRITER

KAFKA = Loop(
    name="kafka-link",
    late_after=20.0,
    vital=False,
    purpose="Keeps the connection by which events reach Kafka.",
    when_late="Uploads are accepted, and processed once Kafka answers.",
)

OUTBOX = Loop(
    name="outbox-relay",
    late_after=120.0,
    vital=True,
    purpose="Publishes the events that Kafka did not take at once.",
    when_late="Files that were accepted while Kafka was away stay pending.",
)

SWEEPS = Loop(
    name="sweeps",
    late_after=3 * 3600.0,
    vital=False,
    purpose="Removes interrupted uploads, expired keys and orphaned files.",
    when_late="Storage that nobody needs is freed later.",
)

OUTCOMES = Loop(
    name="outcome-follower",
    late_after=60.0,
    vital=False,
    purpose="Follows how files end, for de-duplication (`WAYBILL_DEDUPLICATE`).",
    when_late="An upload may be answered with an earlier file that has failed since.",
)

USAGE_REPORTS = Loop(
    name="usage-reports",
    late_after=30.0,
    vital=False,
    purpose="Reports to the other pods what owners upload here.",
    when_late="Limits of owners hold on each pod by itself.",
)

USAGE_LISTENER = Loop(
    name="usage-listener",
    late_after=30.0,
    vital=False,
    purpose="Hears from the other pods what owners upload there.",
    when_late="Limits of owners hold on each pod by itself.",
)

LOOPS = (BLOB_WRITER, KAFKA, CLOCK_PROBE, OUTBOX, SWEEPS, OUTCOMES, USAGE_REPORTS, USAGE_LISTENER)

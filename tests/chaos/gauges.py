"""The gauges of the services, and what they must show at the end."""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from importlib.util import find_spec

import httpx
from prometheus_client.parser import text_string_to_metric_families

from shared.background.loops import Loop

FILES = "waybill_files"
IN_FLIGHT = "waybill_work_in_flight"
OUTBOX = "waybill_outbox_events"
LAG = "waybill_lag_records"
SUCCESS = "waybill_loop_last_success_seconds"

SERVICES = ("upload", "processor", "status")

ZERO = (IN_FLIGHT, OUTBOX, LAG)
"""Gauges of queued work, which must be zero at the end."""


@dataclass(frozen=True)
class Gauges:
    """The content of `/metrics` of one service."""

    now: float
    """Unix time by that service's clock, which may be wrong."""
    values: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Values by name and value of the last label, which is empty without labels."""


async def read_gauges(http: httpx.AsyncClient, address: str) -> Gauges:
    """Read a service's gauges.

    Raises:
        httpx.HTTPError: the service does not answer.
    """
    answer = await http.get(f"{address}/metrics")
    answer.raise_for_status()
    values = {
        (sample.name, list(sample.labels.values())[-1] if sample.labels else ""): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    return Gauges(parsedate_to_datetime(answer.headers["date"]).timestamp(), values)


def wrong_gauges(gauges: Gauges, *, files: Mapping[str, int]) -> Iterator[str]:
    """Describe each gauge of a service that is wrong at the end.

    Args:
        files: number of files by status.
    """
    for (name, label), value in gauges.values.items():
        if name in ZERO and value:
            yield f"{name} {label} is {value:g}, not 0"
        if name == SUCCESS and (late_after := late_after_of(label)) is not None:
            age = gauges.now - value
            if age > late_after + 1:
                yield f"the loop {label} last succeeded {age:.0f} s ago, late after {late_after:g}"
        if name == FILES and value != files.get(label, 0):
            yield f"{name} {label} is {value:g}, not {files.get(label, 0)}"


def late_after_of(name: str) -> float | None:
    """Return the seconds after which a background loop is late; None for an unknown loop."""
    for service in SERVICES:
        for loop in loops_of(service):
            if loop.name == name:
                return loop.late_after
    return None


def loops_of(service: str) -> list[Loop]:
    """Return the background loops that a service declares, by name."""
    module = f"services.{service}.loops"
    if find_spec(module) is None:
        return []
    declared = vars(importlib.import_module(module)).values()
    return sorted((each for each in declared if isinstance(each, Loop)), key=lambda loop: loop.name)

"""`waybill doctor`: a table of checks, each of which looks at one thing and says what to do.

A new check is a function that takes the surroundings and yields findings, and one line in `CHECKS`.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import httpx
from rich.console import Console
from rich.table import Table

State = Literal["ok", "warning", "failed"]

TIMEOUT = 5.0
"""Seconds for a service to answer."""

_RUNG = re.compile(r'^waybill_isolation_rung\{rung="(\w+)"\} 1\.0$', re.MULTILINE)

_SKEW = re.compile(r"^waybill_clock_skew_seconds (\S+)$", re.MULTILINE)

MAX_SKEW = 5.0
"""Seconds that a clock may be off, as for the note in `/health/ready`."""

STATE_OF_RUNG: Mapping[str, State] = {"namespaces": "ok", "landlock": "warning"}
"""Any other rung is a failure."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the checks look at."""

    environment: Mapping[str, str]
    """variables of the services, as far as they are known here"""
    services: Mapping[str, str]
    """address of each running service, by a name for people"""
    processors: Mapping[str, str]
    """the same of the processors alone"""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check has found."""

    check: str
    state: State
    detail: str


Check = Callable[[Surroundings], Iterator[Finding]]


def isolation_here(around: Surroundings) -> Iterator[Finding]:
    """Check how well this machine isolates worker processes, by trying it."""
    check = "isolation on this machine"
    command = [sys.executable, "-m", "services.processor.isolation"]
    done = subprocess.run(
        command, env=dict(around.environment), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no output"]
        yield Finding(check=check, state="failed", detail=f"cannot be tried: {lines[-1]}")
        return
    report = json.loads(done.stdout)
    remedies = [f"{layer}: {remedy}" for layer, remedy in report["missing"].items()]
    state = STATE_OF_RUNG.get(report["rung"], "failed")
    yield Finding(check=check, state=state, detail="; ".join([report["rung"], *remedies]))


def isolation_of_processors(around: Surroundings) -> Iterator[Finding]:
    """Check how well the running processors isolate their workers, by their metrics."""
    for name, address in around.processors.items():
        check = f"isolation of {name}"
        try:
            rung = _RUNG.search(httpx.get(f"{address}/metrics", timeout=TIMEOUT).text)
        except httpx.HTTPError as error:
            yield Finding(check=check, state="failed", detail=f"{address} does not answer: {error}")
            continue
        if rung is None:
            yield Finding(check=check, state="warning", detail="it has not started any worker yet")
        else:
            state = STATE_OF_RUNG.get(rung[1], "failed")
            yield Finding(check=check, state=state, detail=rung[1])


def readiness(around: Surroundings) -> Iterator[Finding]:
    """Check whether the running services are ready, and what they want an operator to know."""
    for name, address in around.services.items():
        try:
            answer = httpx.get(f"{address}/health/ready", timeout=TIMEOUT)
            told = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            yield Finding(check=name, state="failed", detail=f"{address} does not answer: {error}")
            continue
        if answer.status_code != httpx.codes.OK:
            yield Finding(check=name, state="failed", detail=str(told.get("reason", told)))
        elif note := told.get("note"):
            yield Finding(check=name, state="warning", detail=str(note))
        else:
            yield Finding(check=name, state="ok", detail="ready")


def clocks(around: Surroundings) -> Iterator[Finding]:
    """Check how far the clock of each service is off Kafka's, by their metrics."""
    for name, address in around.services.items():
        try:
            told = _SKEW.search(httpx.get(f"{address}/metrics", timeout=TIMEOUT).text)
        except httpx.HTTPError:
            continue  # `readiness` says so.
        if told is None:
            continue  # It has not written to Kafka yet.
        skew = float(told[1])
        detail = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} Kafka's clock"
        if abs(skew) < MAX_SKEW:
            yield Finding(check=f"clock of {name}", state="ok", detail=f"within {MAX_SKEW:g} s")
        else:
            detail += "; have the machine's clock set, by NTP for example"
            yield Finding(check=f"clock of {name}", state="warning", detail=detail)


CHECKS: tuple[Check, ...] = (isolation_here, isolation_of_processors, readiness, clocks)


def surroundings(
    running: Mapping[str, object],
    *,
    environment: Mapping[str, str],
    status: str,
    upload: str,
    processors: list[str],
) -> Surroundings:
    """Return what to look at.

    Args:
        running: what `stack.json` says of a running local stack.
        environment: of commands beside it.
        processors: addresses of processors that are no part of it.
    """
    defaults = {"WAYBILL_ISOLATION": "prefer"} if running else {}
    found = running.get("processor_urls", [])
    addresses = [*(found if isinstance(found, list) else []), *processors]
    named = {f"processor {number}": str(each) for number, each in enumerate(addresses, start=1)}
    return Surroundings(
        environment={**defaults, **environment},
        services={"status": status, "upload": upload, **named},
        processors=named,
    )


def examine(around: Surroundings) -> list[Finding]:
    """Run all checks."""
    return [finding for check in CHECKS for finding in check(around)]


def print_findings(findings: list[Finding], console: Console) -> None:
    """Print one line for each finding."""
    table = Table(box=None, pad_edge=False)
    for heading in ("state", "check", "detail"):
        table.add_column(heading, overflow="fold")
    colors = {"ok": "green", "warning": "yellow", "failed": "red"}
    for each in findings:
        table.add_row(f"[{colors[each.state]}]{each.state}[/]", each.check, each.detail)
    console.print(table)

"""`waybill doctor`: checks of this machine and the running services.

To add a check, write a function that takes the context and yields findings, and add it to `CHECKS`.
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
"""Seconds that a service has to answer."""

_RUNG = re.compile(r'^waybill_isolation_rung\{rung="(\w+)"\} 1\.0$', re.MULTILINE)

_SKEW = re.compile(r"^waybill_clock_skew_seconds (\S+)$", re.MULTILINE)

MAX_SKEW = 5.0
"""Maximum clock skew in seconds, the same as for the note in `/health/ready`."""

STATE_OF_RUNG: Mapping[str, State] = {"namespaces": "ok", "landlock": "warning"}
"""State of each isolation level. Any other level is a failure."""


@dataclass(frozen=True, kw_only=True)
class CheckContext:
    """The environment and services to check."""

    environment: Mapping[str, str]
    """Environment variables of the services, as far as known."""
    services: Mapping[str, str]
    """URL of each running service, by display name."""
    processors: Mapping[str, str]
    """URL of each processor, by display name."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check."""

    check: str
    state: State
    detail: str


Check = Callable[[CheckContext], Iterator[Finding]]


def isolation_here(context: CheckContext) -> Iterator[Finding]:
    """Check how well this machine can isolate worker processes."""
    check = "isolation on this machine"
    command = [sys.executable, "-m", "services.processor.isolation"]
    done = subprocess.run(
        command, env=dict(context.environment), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no output"]
        yield Finding(check=check, state="failed", detail=f"the isolation test failed: {lines[-1]}")
        return
    report = json.loads(done.stdout)
    remedies = [f"{layer}: {remedy}" for layer, remedy in report["missing"].items()]
    state = STATE_OF_RUNG.get(report["rung"], "failed")
    yield Finding(check=check, state=state, detail="; ".join([report["rung"], *remedies]))


def isolation_of_processors(context: CheckContext) -> Iterator[Finding]:
    """Check how well the running processors isolate their workers, from their metrics."""
    for name, address in context.processors.items():
        check = f"isolation of {name}"
        try:
            rung = _RUNG.search(httpx.get(f"{address}/metrics", timeout=TIMEOUT).text)
        except httpx.HTTPError as error:
            yield Finding(check=check, state="failed", detail=f"{address} does not answer: {error}")
            continue
        if rung is None:
            yield Finding(check=check, state="warning", detail="no worker has been started yet")
        else:
            state = STATE_OF_RUNG.get(rung[1], "failed")
            yield Finding(check=check, state=state, detail=rung[1])


def readiness(context: CheckContext) -> Iterator[Finding]:
    """Check that the running services are ready, and report their notes."""
    for name, address in context.services.items():
        try:
            answer = httpx.get(f"{address}/health/ready", timeout=TIMEOUT)
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            yield Finding(check=name, state="failed", detail=f"{address} does not answer: {error}")
            continue
        if answer.status_code != httpx.codes.OK:
            yield Finding(check=name, state="failed", detail=str(found.get("reason", found)))
        elif note := found.get("note"):
            yield Finding(check=name, state="warning", detail=str(note))
        else:
            yield Finding(check=name, state="ok", detail="ready")


def clocks(context: CheckContext) -> Iterator[Finding]:
    """Check the clock skew between each service and Kafka, from their metrics."""
    for name, address in context.services.items():
        try:
            found = _SKEW.search(httpx.get(f"{address}/metrics", timeout=TIMEOUT).text)
        except httpx.HTTPError:
            continue  # Reported by `readiness`.
        if found is None:
            continue  # It has not written to Kafka yet.
        skew = float(found[1])
        detail = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} Kafka's clock"
        if abs(skew) < MAX_SKEW:
            yield Finding(check=f"clock of {name}", state="ok", detail=f"within {MAX_SKEW:g} s")
        else:
            detail += "; synchronize the machine's clock, for example with NTP"
            yield Finding(check=f"clock of {name}", state="warning", detail=detail)


CHECKS: tuple[Check, ...] = (isolation_here, isolation_of_processors, readiness, clocks)


def check_context(
    running: Mapping[str, object],
    *,
    environment: Mapping[str, str],
    status: str,
    upload: str,
    processors: list[str],
) -> CheckContext:
    """Return the context for the checks.

    Args:
        running: Content of `stack.json`; empty without a running local stack.
        environment: Environment for commands that use the stack.
        status: URL of the status service.
        upload: URL of the upload service.
        processors: URLs of further processors.
    """
    defaults = {"WAYBILL_ISOLATION": "prefer"} if running else {}
    found = running.get("processor_urls", [])
    addresses = [*(found if isinstance(found, list) else []), *processors]
    named = {f"processor {number}": str(each) for number, each in enumerate(addresses, start=1)}
    return CheckContext(
        environment={**defaults, **environment},
        services={"status": status, "upload": upload, **named},
        processors=named,
    )


def examine(context: CheckContext) -> list[Finding]:
    """Run all checks and return their findings."""
    return [finding for check in CHECKS for finding in check(context)]


def print_findings(findings: list[Finding], console: Console) -> None:
    """Print one line for each finding."""
    table = Table(box=None, pad_edge=False)
    for heading in ("state", "check", "detail"):
        table.add_column(heading, overflow="fold")
    colors = {"ok": "green", "warning": "yellow", "failed": "red"}
    for each in findings:
        table.add_row(f"[{colors[each.state]}]{each.state}[/]", each.check, each.detail)
    console.print(table)

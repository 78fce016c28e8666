"""Run Waybill on one machine: start everything in order, restart what fails, stop in order."""

import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import httpx

from shared.addresses import bare_host, local_url
from shared.auth.sealed import SEALED_FOLDERS
from shared.writing import write_file
from waybill.addresses import DEFAULT_FOLDER, SEAL_FILE
from waybill.errors import StackError
from waybill.local.parts import Parts
from waybill.local.ports import HOST, choose_port, free_port
from waybill.local.process import Child

SERVICE_SECRETS = ("WAYBILL_SEAL_SECRET", "WAYBILL_AUTH_SECRET")
"""Secrets that processors do not need and workers must not see."""

STATUS_PORT = 8000
UPLOAD_PORT = 8001

READY_TIMEOUT = 60.0
"""Seconds for all services to become ready. On a small machine they need about five."""

SERVICE_GRACE = 4.0
"""Seconds that running jobs get on shutdown. Including Kafka and MongoDB, all stops in 15 s."""

KILL_AFTER = SERVICE_GRACE + 3.0
"""Seconds after which a service that does not stop is killed."""

TICK = 0.1
FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0
"""Seconds before a failed service is restarted; doubled each time up to the second value."""

STABLE_AFTER = 30.0
"""Seconds of uptime after which the restart delay is reset."""


def next_delay(previous: float, lived: float) -> float:
    """Return the seconds to wait before a restart.

    Args:
        previous: The previous delay in seconds; 0 before the first restart.
        lived: Uptime of the failed process in seconds.
    """
    if lived >= STABLE_AFTER or previous == 0:
        return FIRST_DELAY
    return min(previous * 2, LONGEST_DELAY)


@dataclass
class Supervised:
    """A process that is restarted while the stack runs."""

    child: Child
    delay: float = 0.0
    due: float | None = None
    """Time of the next restart in monotonic seconds; None while the process runs."""

    @property
    def address(self) -> str:
        """URL of the service."""
        environment = self.child.environment
        return local_url(environment.get("WAYBILL_HOST", HOST), environment["WAYBILL_PORT"])


class _StopRequested(Exception):  # noqa: N818 - a request, not an error
    """SIGINT or SIGTERM was received."""


@dataclass
class Stack:
    """Kafka, MongoDB, the services and their data folder."""

    folder: Path
    report: Callable[[str], None]
    processors: int = 1
    port: int | None = None
    upload_port: int | None = None
    parts: Parts = field(default_factory=Parts)
    processes: dict[str, Supervised] = field(default_factory=dict)
    """Supervised processes, in the order in which they were started."""
    _stop_requested: bool = False

    @property
    def host(self) -> str:
        """Address that the services listen on."""
        return bare_host(os.environ.get("WAYBILL_HOST", HOST))

    @property
    def file(self) -> Path:
        """File with the URLs and process ids."""
        return self.folder / "stack.json"

    def run(self, on_ready: Callable[["Stack"], None]) -> None:
        """Start everything, restart failed processes until SIGINT or SIGTERM, then stop everything.

        Args:
            on_ready: Called once all services are ready.

        Raises:
            StackError: A process cannot be started.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        with self._lock():
            try:
                self._start()
                on_ready(self)
                while True:
                    self._restart_failed()
                    time.sleep(TICK)
                    self._check_stop()
            except _StopRequested:
                self.report("stopping …")
            finally:
                self._stop()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # A flag instead of an exception, which would interrupt startup code at any point.
        self._stop_requested = True

    def _check_stop(self) -> None:
        if self._stop_requested:
            raise _StopRequested

    def _lock(self) -> TextIO:
        lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise StackError(
                f"A stack is already running in {self.folder}; stop it first, "
                "or choose another folder with --dir."
            ) from error
        return lock

    def _start(self) -> None:
        status_port = choose_port(self.port, STATUS_PORT, self.report, host=self.host)
        upload_port = choose_port(self.upload_port, UPLOAD_PORT, self.report, host=self.host)
        self.report("starting Kafka and MongoDB …")
        self.parts.start(self.folder)
        self.processes = {name: Supervised(part) for name, part in self.parts.children.items()}
        self._check_stop()
        self.report("starting the services …")
        common = self._environment(status_port, upload_port)
        self._create_topics(common)
        self._add("upload", "services.upload", common, upload_port)
        self._add("status", "services.status", common, status_port)
        for number in range(1, self.processors + 1):
            self._add(f"processor-{number}", "services.processor", common, free_port(self.host))
        self._wait_until_ready()
        self._write_file()

    def _environment(self, status_port: int, upload_port: int) -> dict[str, str]:
        defaults = {
            "WAYBILL_BLOBS": str((self.folder / "blobs").resolve()),
            "WAYBILL_DEMO": "true",
            "WAYBILL_ISOLATION": "prefer",
            "WAYBILL_SEAL_SECRET": self._seal_secret(),
            "WAYBILL_SHUTDOWN_GRACE": str(SERVICE_GRACE),
        }
        fixed = {
            "WAYBILL_KAFKA": self.parts.kafka,
            "WAYBILL_MONGODB": self.parts.mongodb,
            "WAYBILL_STATUS_URL": local_url(self.host, status_port),
            "WAYBILL_UPLOAD_URL": local_url(self.host, upload_port),
            "PYTHONUNBUFFERED": "1",
        }
        return {**defaults, **os.environ, **fixed}

    def _seal_secret(self) -> str:
        """Return the secret that seals API keys and webhooks. Created on the first start."""
        file = self.folder / SEAL_FILE
        if not file.exists():
            draft = file.with_suffix(".tmp")
            draft.unlink(missing_ok=True)
            draft.touch(mode=0o600)
            write_file(draft, secrets.token_hex(32))
            draft.replace(file)
        if self._has_unsealed_records():
            where = "" if self.folder == DEFAULT_FOLDER else f" --dir {self.folder}"
            self.report(
                "API keys or webhooks of an earlier version have no seal and are rejected until "
                f"you run `waybill keys sign{where}`"
            )
        return file.read_text()

    def _has_unsealed_records(self) -> bool:
        records = (
            record
            for folder in SEALED_FOLDERS
            for record in (self.folder / "blobs" / folder).glob("*.json")
        )
        return any(b'"seal":"' not in record.read_bytes() for record in records)

    def _create_topics(self, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "shared.kafka.messaging"]
        done = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise StackError(f"Topics cannot be created:\n{done.stderr.strip()}")

    def _add(self, name: str, module: str, common: Mapping[str, str], port: int) -> None:
        environment = {**common, "WAYBILL_PORT": str(port)}
        if module == "services.processor":
            for name_of_secret in SERVICE_SECRETS:
                environment.pop(name_of_secret, None)
            environment.setdefault("WAYBILL_POD", name)
        command = [sys.executable, "-m", module]
        log = self.folder / "logs" / f"{name}.log"
        self.processes[name] = Supervised(Child(name, command, environment=environment, log=log))

    @property
    def _services(self) -> dict[str, Supervised]:
        return {
            name: process
            for name, process in self.processes.items()
            if name not in self.parts.children
        }

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        waiting = self._services
        with httpx.Client(timeout=1, trust_env=False) as http:
            while waiting:
                self._check_stop()
                for name, service in list(waiting.items()):
                    if not service.child.alive:
                        raise StackError(
                            f"{name} {service.child.how_it_ended()} during startup:\n"
                            f"{service.child.last_lines()}"
                        )
                    if _is_ready(http, service.address):
                        del waiting[name]
                if time.monotonic() > deadline:
                    names = ", ".join(waiting)
                    raise StackError(
                        f"Not ready after {READY_TIMEOUT:g} s: {names}. See {self.folder / 'logs'}."
                    )
                time.sleep(TICK)

    def _restart_failed(self) -> None:
        """Restart failed processes with exponential backoff."""
        now = time.monotonic()
        for name, process in self.processes.items():
            dead = process.child
            if dead.alive:
                continue
            if process.due is None:
                process.delay = next_delay(process.delay, now - dead.started)
                process.due = now + process.delay
                dead.finish(now)
            elif now >= process.due:
                process.child, process.due = dead.again(), None
                self.report(
                    f"{name} (pid {dead.pid}) {dead.how_it_ended()}; "
                    f"restarted as pid {process.child.pid}"
                )
                try:
                    self._write_file()
                except OSError as error:  # A full disk must not stop running services.
                    self.report(f"cannot write {self.file}: {error}")

    def _write_file(self) -> None:
        """Write the URLs and process ids atomically."""
        text = json.dumps(self.describe(), indent=2) + "\n"
        draft = self.file.with_suffix(".tmp")
        draft.touch(mode=0o600)  # A connection string may contain a password.
        write_file(draft, text)
        draft.replace(self.file)

    def describe(self) -> dict[str, Any]:
        """Return the content of `stack.json`."""
        upload = self.processes["upload"]
        pids = {name: process.child.pid for name, process in self.processes.items()}
        processors = [pids.pop(name) for name in list(pids) if name.startswith("processor-")]
        return {
            "upload_url": upload.address,
            "status_url": self.processes["status"].address,
            "kafka": self.parts.kafka,
            "mongodb": self.parts.mongodb,
            "processor_urls": [
                process.address
                for name, process in self.processes.items()
                if name.startswith("processor-")
            ],
            "blobs": upload.child.environment["WAYBILL_BLOBS"],
            "pids": {**pids, "processor": processors},
        }

    def _stop(self) -> None:
        """Stop the services, then Kafka and MongoDB."""
        self.file.unlink(missing_ok=True)
        services = [service.child for service in self._services.values()]
        for child in services:
            child.terminate()
        deadline = time.monotonic() + KILL_AFTER
        for child in services:
            child.finish(deadline)
        # A restarted Kafka or MongoDB is a different process from the first one.
        for name in self.parts.children:
            if name in self.processes:
                self.parts.children[name] = self.processes[name].child
        self.parts.stop()


def _is_ready(http: httpx.Client, address: str) -> bool:
    try:
        return http.get(f"{address}/health/ready").status_code == 200
    except httpx.HTTPError:
        return False

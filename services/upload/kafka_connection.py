"""The producer's connection to Kafka: opened in the background, monitored and reopened."""

import asyncio
import logging

from shared.addresses import split_address
from shared.background.supervision import OUTAGES, RunningLoop
from shared.kafka.publishing import Publisher
from shared.settings import KAFKA_PORT

log = logging.getLogger(__name__)


RETRY_INTERVAL = 1.0
"""Seconds between two connection attempts: soon after Kafka starts, and no load before."""

CHECK_INTERVAL = 2.0
"""Seconds between two checks that Kafka answers."""

UNAVAILABLE_AFTER = 6.0
"""Seconds without an answer after which Kafka counts as unavailable. Longer than short pauses such
as a leader election."""


class KafkaConnection:
    """Keeps the publisher connected while the service runs, across Kafka outages."""

    def __init__(self, publisher: Publisher, servers: str) -> None:
        self._publisher = publisher
        self._servers = servers
        self.unavailable_reason: str | None = "Kafka has not answered yet"
        """Reason why nothing can be published; None while Kafka answers."""

    async def run(self, loop: RunningLoop) -> None:
        """Keep the connection until cancelled. A Kafka outage is not a failure of this loop."""
        try:
            while True:
                try:
                    await self._connect_and_watch(loop)
                except OUTAGES as error:
                    self._report("Kafka does not answer", repr(error))
                loop.waits_for("Kafka")
                await asyncio.sleep(RETRY_INTERVAL)
        finally:
            self._report(
                self.unavailable_reason or "the connection to Kafka has ended", "the loop ends"
            )
            await self._publisher.stop()

    async def _connect_and_watch(self, loop: RunningLoop) -> None:
        """Connect, and return once Kafka no longer answers."""
        await self._check_bootstrap_servers()
        await self._publisher.start()
        try:
            self.unavailable_reason = None
            log.info("connected to Kafka at %s", self._servers)
            await self._watch(loop)
        finally:
            await self._publisher.stop()

    async def _watch(self, loop: RunningLoop) -> None:
        """Return once Kafka no longer answers."""
        last = now = asyncio.get_running_loop().time()
        while now - last < UNAVAILABLE_AFTER:
            await asyncio.sleep(CHECK_INTERVAL)
            answers = await self._publisher.answers()
            now = asyncio.get_running_loop().time()
            if answers:
                loop.succeeded()
                last = now
        self._report("Kafka does not answer", f"no answer for {UNAVAILABLE_AFTER:g} s")

    async def _check_bootstrap_servers(self) -> None:
        """Fail early if no bootstrap server accepts connections.

        A producer that cannot start logs errors, and again when it is garbage-collected. During an
        outage, this would happen every second.
        """
        refused: Exception | None = None
        for server in self._servers.split(","):
            host, port = split_address(server, default_port=KAFKA_PORT)
            try:
                async with asyncio.timeout(UNAVAILABLE_AFTER):
                    _, writer = await asyncio.open_connection(host, port)
            except (OSError, TimeoutError) as error:
                refused = error
            else:
                writer.close()
                return
        raise refused or ValueError("no bootstrap server is configured")

    def _report(self, unavailable_reason: str, details: str) -> None:
        """Set the reason, which clients may see. The log also gets the address and the details."""
        if self.unavailable_reason != unavailable_reason:
            log.warning("%s at %s: %s; reconnecting", unavailable_reason, self._servers, details)
        self.unavailable_reason = unavailable_reason

"""The connection to Kafka: made in the background, watched, and made again when it is lost."""

import asyncio
import logging

from shared.addresses import split_address
from shared.background.supervision import OUTAGES, RunningLoop
from shared.kafka.publishing import Publisher
from shared.settings import KAFKA_PORT

log = logging.getLogger(__name__)


RETRY_EVERY = 1.0
"""Seconds between two tries to connect: soon enough after Kafka's start, and no load before it."""

LOOK_EVERY = 2.0
"""Seconds between two looks whether Kafka still answers."""

PATIENCE = 6.0
"""Seconds without an answer after which Kafka counts as gone; above its own short pauses, such as
the election of another leader."""


class KafkaConnection:
    """Keeps a publisher connected for as long as the service runs, whether or not Kafka does."""

    def __init__(self, publisher: Publisher, servers: str) -> None:
        self._publisher = publisher
        self._servers = servers
        self.trouble: str | None = "Kafka has not answered yet"
        """Why nothing can be published now; None when it can."""

    async def run(self, loop: RunningLoop) -> None:
        """Hold the connection until cancelled. That Kafka is away is no failure of the loop."""
        try:
            while True:
                try:
                    await self._hold(loop)
                except OUTAGES as error:
                    self._report("Kafka does not answer", repr(error))
                loop.waits_for("Kafka")
                await asyncio.sleep(RETRY_EVERY)
        finally:
            self._report(self.trouble or "the connection to Kafka has ended", "the loop ends")
            await self._publisher.stop()

    async def _hold(self, loop: RunningLoop) -> None:
        """Connect, and return when Kafka does not answer any more."""
        await self._look_for_server()
        await self._publisher.start()
        try:
            self.trouble = None
            log.info("connected to Kafka at %s", self._servers)
            await self._watch(loop)
        finally:
            await self._publisher.stop()

    async def _watch(self, loop: RunningLoop) -> None:
        """Return when Kafka does not answer any more."""
        last = now = asyncio.get_running_loop().time()
        while now - last < PATIENCE:
            await asyncio.sleep(LOOK_EVERY)
            answers = await self._publisher.answers()
            now = asyncio.get_running_loop().time()
            if answers:
                loop.succeeded()
                last = now
        self._report("Kafka does not answer any more", f"for {PATIENCE:g} s")

    async def _look_for_server(self) -> None:
        """Fail early while nobody listens.

        A producer that cannot start complains loudly, and once more when it is collected; that
        would be every second while Kafka is down.
        """
        refused: Exception | None = None
        for server in self._servers.split(","):
            host, port = split_address(server, default_port=KAFKA_PORT)
            try:
                async with asyncio.timeout(PATIENCE):
                    _, writer = await asyncio.open_connection(host, port)
            except (OSError, TimeoutError) as error:
                refused = error
            else:
                writer.close()
                return
        raise refused or ValueError("no bootstrap server is configured")

    def _report(self, trouble: str, reason: str) -> None:
        """Note the trouble, which clients may be told; the log has the address and the reason."""
        if self.trouble != trouble:
            log.warning("%s at %s: %s; trying again", trouble, self._servers, reason)
        self.trouble = trouble
